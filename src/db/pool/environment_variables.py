"""libpq's own environment variables: what they would add to a connection is left out, or refused by name.

The settings say all of a connection. A variable that is there for psql's sake, or for another library's, would lead it
to another host (PGHOSTADDR), garble what it sends (PGCLIENTENCODING), or keep it waiting for a server that never comes
(PGTARGETSESSIONATTRS). What is wanted of them goes into DB_URL or DB_CONNECT_ARGS.
https://www.postgresql.org/docs/18/libpq-envars.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from db.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where the empty string is not what libpq does by itself.
_LEFT_OUT = {
    "sslcertmode": "allow",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
    "require_auth": "password,md5,gss,sspi,scram-sha-256,none",
}
# libpq reads these though it is told of the rest, and sends the last three with each login.
_CANNOT_BE_LEFT_OUT = {
    "PGSERVICE": 'unset it, or ask for it by DB_CONNECT_ARGS={"service": …}',
    "PGTZ": "unset it; ALTER ROLE … SET timezone says it for every client",
    "PGDATESTYLE": "unset it; ALTER ROLE … SET datestyle says it for every client",
    "PGGEQO": "unset it; ALTER ROLE … SET geqo says it for every client",
}
# asyncpg reads some of them, and has no word for all that it reads.
_OF_ASYNCPG = {
    "PGPASSWORD": "password",
    "PGPASSFILE": "password",
    "PGSERVICE": "service",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLCRL": "sslcrl",
    "PGSSLNEGOTIATION": "sslnegotiation",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGKRBSRVNAME": "krbsrvname",
    "PGGSSLIB": "gsslib",
}


def without_variables(params: dict[str, Any], environ: Mapping[str, str], *, driver: str) -> dict[str, Any]:
    """``params``, and what keeps ``environ`` out of the connection that they describe.

    Raises ConfigurationError for a variable that the driver reads whatever it is told.
    """
    found = {name for name, value in environ.items() if name.startswith("PG") and value}
    if not found:
        return params
    if driver == "asyncpg":
        _refuse({name: "unset it" for name, word in _OF_ASYNCPG.items() if name in found and word not in params})
        return params
    asked = {"PGSERVICE"} if "service" in params else set()
    _refuse({name: way for name, way in _CANNOT_BE_LEFT_OUT.items() if name in found - asked})
    return {**_defaults(found), **params}


def _refuse(by_name: Mapping[str, str]) -> None:
    if by_name:
        raise ConfigurationError(
            [f"{name} is set, and the driver lets it into every connection: {way}" for name, way in by_name.items()]
        )


def _defaults(found: set[str]) -> dict[str, str]:
    """What libpq would take where the variables ``found`` were not there."""
    from psycopg import pq

    return {
        keyword: _LEFT_OUT.get(keyword) or (option.compiled or b"").decode()
        for option in pq.Conninfo.get_defaults()
        if option.envvar is not None and option.envvar.decode() in found
        for keyword in [option.keyword.decode()]
        if keyword != "service"
    }
