"""DB_URL: one SQLAlchemy URL of the spellings that providers print, or what to write instead.

Loaded where a URL is given. A message never repeats the URL: it holds a password.
"""

from __future__ import annotations

import difflib
import importlib.util

from sqlalchemy import URL, exc, make_url

from .engines.kinds import kind_named, refusal_of

_WRITE = "write postgresql://user:password@host/database"
_SCHEMES = ("postgresql", "postgres")  # the second is Heroku's, and that of all who followed it
# By the names of SQLAlchemy's dialects, and of the one in ``wire``, which is what all of them come to.
_OUR_DRIVERS = {"", "psycopg", "psycopg_async", "serverless"}
# What only Prisma, JDBC, asyncpg or a provider's own tools understand, and what it is here.
_SAID_OTHERWISE = {
    "pgbouncer": "set DB_PROXY=pgbouncer",
    "schema": "set DB_SCHEMA",
    "currentSchema": "set DB_SCHEMA",
    "search_path": "set DB_SCHEMA",
    "connection_limit": "set DB_POOL_SIZE",
    "pool_size": "set DB_POOL_SIZE",
    "pool_timeout": "set DB_POOL_TIMEOUT_S",
    "ssl": "write sslmode, or set DB_SSLMODE",
    "sslaccept": "write sslmode, or set DB_SSLMODE",
    "sslrootcertificate": "write sslrootcert, or set DB_SSLROOTCERT",
    "ApplicationName": "write application_name, or set DB_APPLICATION_NAME",
    "statement_timeout": "set DB_STATEMENT_TIMEOUT_S",
    "prepared_statement_cache_size": "leave it out: DB_PREPARE says what is prepared by a name",
    "statement_cache_size": "leave it out: DB_PREPARE says what is prepared by a name",
}


def read(given: str | URL) -> URL:
    """``given`` as a URL with a driver that is there. Raises ValueError, whose words follow the setting's name."""
    url = given if isinstance(given, URL) else _parsed(given.strip())
    scheme, _, driver = url.drivername.partition("+")
    if scheme in _SCHEMES:
        return _postgresql(url, driver)
    if kind_named(scheme) is None:
        meant = difflib.get_close_matches(scheme, [*_SCHEMES, "psql", "pgsql", "aurorapostgresql"], n=1, cutoff=0.7)
        raise ValueError(refusal_of(scheme) + (f"; for PostgreSQL, {_WRITE}" if meant else ""))
    kind = kind_named(scheme)
    if kind is not None and kind.not_by_url is not None:
        raise ValueError(f"names {kind.title}, which {kind.not_by_url}")
    if kind is not None and kind.needs is not None:
        return _by_extra(url, driver, *kind.needs)
    try:
        url.get_dialect().import_dbapi()
    except (exc.NoSuchModuleError, ImportError):
        raise ValueError(f"names a driver that is not installed, {url.drivername!r}") from None
    return url


def _by_extra(url: URL, driver: str, package: str, extra: str) -> URL:
    """``url``, of an engine whose driver is ``package`` and no other."""
    if driver not in {"", package, "serverless"}:
        raise ValueError(f"names the driver {driver!r}, and {url.get_backend_name()} is reached through {package} here")
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"names {url.get_backend_name()}, which needs {package}: pip install 'serverless-data-access[{extra}]'"
        )
    return url.set(drivername=url.get_backend_name())


def _parsed(text: str) -> URL:
    # Not `from error`: its message repeats the URL, and with it the password.
    try:
        return make_url(text)
    except (exc.ArgumentError, ValueError):
        pass
    if text.lower().startswith("jdbc:"):
        raise ValueError(f"is a URL of JDBC: {_WRITE}")
    if text[:1] in {'"', "'"}:
        raise ValueError("stands in quotes, which belong to a shell or a file and not to the value")
    if "=" in text and "://" not in text:
        raise ValueError(f"is a connection string of libpq: {_WRITE}")
    raise ValueError("is not a SQLAlchemy URL")


def _postgresql(url: URL, driver: str) -> URL:
    if driver not in _OUR_DRIVERS:
        # Tenant and time limits travel through the driver: without them it would be another product.
        also = ", and DB_ASYNC_DRIVER=asyncpg for db.aio" if driver == "asyncpg" else ""
        raise ValueError(f"names the driver {driver!r}, and PostgreSQL is reached through psycopg here: {_WRITE}{also}")
    if "@" in f"{url.host}{url.database}":
        raise ValueError(
            "holds a user or a password with characters that end it: write @ as %40, / as %2F, : as %3A, ? as %3F"
        )
    _check_parameters(url)
    return url.set(drivername="postgresql") if driver != "serverless" else url


def _check_parameters(url: URL) -> None:
    if not url.query:
        return
    from psycopg import pq

    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"prepare_threshold"}
    problems = []
    for name in sorted(url.query.keys() - known):
        close = difflib.get_close_matches(name, known, n=1)
        remedy = _SAID_OTHERWISE.get(name) or (f"is {close[0]} meant?" if close else "")
        problems.append(f"{name!r}" + (f" ({remedy})" if remedy else ""))
    if problems:
        raise ValueError(f"holds what is no parameter of a connection: {', '.join(problems)}")
