"""The driver's connect arguments: what settings, secret and URL say of host, login, TLS and time-outs. Pure."""

from __future__ import annotations

import ipaddress
import math
import re
from typing import TYPE_CHECKING, Any, Literal

from db.credentials.source import DEFAULT_PORT
from db.errors import DOCUMENTATION, ConfigurationError
from db.settings.places import host_problem, port_problem
from db.telemetry.application_name import own_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from db.credentials.source import Credentials
    from db.settings import Settings


Role = Literal["writer", "reader", "unpooled"]
# libpq counts in whole seconds and psycopg raises anything lower to this: ``timing.timebox`` bounds it further.
CONNECT_FLOOR_S = 2
# A peer that went silent is given up after this much unacknowledged sending: well inside an API's ten seconds, well
# above what a busy network needs to retransmit. Keepalives find the same while waiting for a long statement's answer.
_SILENT_PEER_S = 5
_LIBPQ_17 = 170_000
_OF_OPTIONS = re.compile(r"[\\\s]")  # what ends a word in libpq's ``options``, or escapes that
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}


def endpoint(settings: Settings, role: Role) -> str | None:
    """The host that the settings name for ``role``; None leaves it to the secret or the URL."""
    return settings.reader_host if role == "reader" and settings.reader_host else settings.host


def port(settings: Settings, role: Role) -> int | None:
    """The port that the settings name for ``role``."""
    return settings.reader_port if role == "reader" and settings.reader_port else settings.port


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, so that traffic to it crosses no network: a socket's folder counts.

    Of a list, whether each of its hosts is.
    """
    if "," in host:
        return all(is_loopback(one) for one in host.split(","))
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def connect_params(
    settings: Settings, credentials: Credentials | None, given: Mapping[str, Any], *, role: Role, timeout_s: float
) -> dict[str, Any]:
    """psycopg's connect arguments.

    ``given`` is what SQLAlchemy made of the URL, where that is the source. The settings win over it and over the
    secret; DB_CONNECT_ARGS has the last word, and startup options add up. Raises ConfigurationError where no host or no
    database is named, or where the certificate cannot be verified as asked.
    """
    host = endpoint(settings, role) or given.get("host") or (credentials.host if credentials else None)
    if not host:
        raise ConfigurationError(["no host: the secret names none, and DB_HOST is not set"])
    # The driver grants it to each host of a list anew.
    limit_s = max(CONNECT_FLOOR_S, math.floor(timeout_s / (host.count(",") + 1)))
    params: dict[str, Any] = {
        "host": host,
        "port": (credentials.port if credentials else None) or DEFAULT_PORT,
        "dbname": credentials.database if credentials else None,
        "application_name": own_name(settings),
        "connect_timeout": limit_s,
        "tcp_user_timeout": _SILENT_PEER_S * 1000,
        **_KEEPALIVES,
        "prepare_threshold": _prepare_threshold(settings),
    }
    params |= {key: value for key, value in given.items() if value is not None}
    named = {
        "host": host,
        "port": port(settings, role),
        "dbname": settings.name,
        "user": settings.user,
        "application_name": settings.application_name,
        "connect_timeout": min(int(params["connect_timeout"]), limit_s),
        "options": _startup_options(settings, given),
    }
    if credentials is not None:
        params |= {"user": credentials.username, "password": credentials.password}
    params |= {key: value for key, value in named.items() if value is not None}
    _require_place(settings, params, role)
    if not params["dbname"] and "service" not in given:
        # Whatever stands in for it is another database, and may let the login in.
        raise ConfigurationError(["no database: the secret names none (by the key 'dbname'), and DB_NAME is not set"])
    if settings.source == "dsql":
        params |= _straight_into_tls()
    further = {key: value for key, value in settings.connect_args.items() if key != "options"}
    return _with_tls(settings, params | further)


def _prepare_threshold(settings: Settings) -> int | None:
    """psycopg's word for DB_PREPARE. None says no: by itself it would name what came five times."""
    if not settings.prepare:
        return None
    from psycopg import capabilities

    if not capabilities.has_send_close_prepared():
        raise ConfigurationError(
            ["DB_PREPARE needs libpq 17 or newer, as in psycopg[binary]: one that can close a name"]
        )
    return settings.prepare


def _straight_into_tls() -> dict[str, Any]:
    """Without PostgreSQL's question ahead of TLS, which is a round trip: libpq can since 17, and DSQL takes it so."""
    from psycopg import pq

    return {"sslnegotiation": "direct"} if pq.version() >= _LIBPQ_17 else {}


def _require_place(settings: Settings, params: Mapping[str, Any], role: Role) -> None:
    """Raise ConfigurationError for what no server can be found by: no waiting mends it."""
    prefix = "DB_READER_" if role == "reader" and settings.reader_host else "DB_"
    host, number = params["host"], params["port"]
    problems = []
    if problem := host_problem(host):
        problems.append(
            f"{prefix + 'HOST' if endpoint(settings, role) else 'the host of DB_URL or the secret'} {problem}"
        )
    if problem := port_problem(number):
        problems.append(f"{prefix + 'PORT' if port(settings, role) else 'the port of DB_URL or the secret'} {problem}")
    hosts, ports = str(host).count(",") + 1, str(number).count(",") + 1
    if ports not in {1, hosts}:
        problems.append(f"DB_URL names {ports} ports for {hosts} hosts")
    if problems:
        raise ConfigurationError(problems)


def _startup_options(settings: Settings, given: Mapping[str, Any]) -> str | None:
    # Neither PgBouncer below 1.20 nor RDS Proxy takes them; there each transaction's prologue sets the search path.
    search_path = None
    if settings.schema and settings.proxy == "none":
        search_path = "-c search_path=" + _OF_OPTIONS.sub(r"\\\g<0>", settings.schema)
    return " ".join(filter(None, (given.get("options"), search_path, settings.connect_args.get("options")))) or None


def _with_tls(settings: Settings, params: dict[str, Any]) -> dict[str, Any]:
    mode = settings.sslmode or params.get("sslmode") or ("prefer" if is_loopback(params["host"]) else "verify-full")
    rootcert = settings.sslrootcert or params.get("sslrootcert")
    if mode.startswith("verify"):
        require_roots(mode, params["host"], rootcert)
    return {**params, "sslmode": mode} | ({"sslrootcert": rootcert} if rootcert else {})


def require_roots(mode: str, host: str, rootcert: str | None) -> None:
    """Raise ConfigurationError where ``mode`` is to verify a certificate and there is nothing to do so with."""
    if not rootcert:
        problem = (
            f"sslmode {mode} is to verify {host!r}, and DB_SSLROOTCERT names no certificates to trust: "
            f"see {DOCUMENTATION}start/packaging/#the-databases-certificates"
        )
        raise ConfigurationError([problem])
