"""PyMySQL's connect arguments: what settings, secret and URL say of host, login, TLS and time-outs.

The like of ``connect_arguments`` for MySQL and MariaDB.
"""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING, Any

from db.errors import ConfigurationError
from db.settings.places import host_problem, port_problem
from db.telemetry.application_name import own_name

from .connect_arguments import endpoint, is_loopback, port, require_roots

if TYPE_CHECKING:
    from collections.abc import Mapping

    from db.credentials.source import Credentials
    from db.settings import Settings

    from .connect_arguments import Role

# What ``wire.mysql_session`` says of a session itself, and what has a setting.
_OWN = {
    *("autocommit", "charset", "client_flag", "collation", "cursorclass", "defer_connect", "init_command", "sql_mode"),
    *("local_infile", "named_pipe", "read_timeout", "write_timeout", "use_unicode", "auth_plugin_map"),
    *("database", "db", "passwd", "connect_timeout", "program_name"),
}
_OF_TLS = {"ssl", "ssl_ca", "ssl_cert", "ssl_disabled", "ssl_key", "ssl_verify_cert", "ssl_verify_identity", "sslmode"}
_FROM_A_FILE = {"read_default_file", "read_default_group"}
# What SQLAlchemy adds to each URL.
_OF_SQLALCHEMY = {"client_flag"}


def connect_params(
    settings: Settings, credentials: Credentials | None, given: Mapping[str, Any], *, role: Role, timeout_s: float
) -> dict[str, Any]:
    """PyMySQL's connect arguments; ``given`` is what SQLAlchemy made of the URL. The settings win over it.

    Raises ConfigurationError where no host or no database is named, or where the certificate cannot be verified as
    asked.
    """
    _refuse_own("DB_URL", given.keys() - _OF_SQLALCHEMY - {"database", "db", "passwd"})
    _refuse_own("DB_CONNECT_ARGS", settings.connect_args.keys())
    host = endpoint(settings, role) or given.get("host") or (credentials.host if credentials else None)
    socket_file = given.get("unix_socket")
    if not host and not socket_file:
        raise ConfigurationError(["no host: the secret names none, and DB_HOST is not set"])
    number = port(settings, role) or given.get("port") or (credentials.port if credentials else None)
    number = number or settings.engine_kind.port
    if host:
        _require_place(str(host), number)
    database = settings.name or given.get("database") or given.get("db")
    database = database or (credentials.database if credentials else None)
    if not database:
        raise ConfigurationError(["no database: the secret names none (by the key 'dbname'), and DB_NAME is not set"])
    params = {
        **given,
        "host": host,
        "port": int(number),
        "database": database,
        "charset": "utf8mb4",
        "connect_timeout": timeout_s,
        "program_name": settings.application_name or own_name(settings),
    }
    if credentials is not None:
        params |= {"user": credentials.username, "password": credentials.password}
    elif settings.user:
        params["user"] = settings.user
    for name in ("db", "passwd"):
        if name in params:
            params.setdefault({"db": "database", "passwd": "password"}[name], params.pop(name))
    return params | dict(settings.connect_args) | _tls(settings, str(host or "localhost"))


def _refuse_own(where: str, names: Any) -> None:
    names = set(names)
    problems = []
    if found := sorted(names & _OWN):
        problems.append(f"{where} says {', '.join(found)}, which is the layer's own to say, or has a setting")
    if found := sorted(names & _OF_TLS):
        problems.append(f"{where} says {', '.join(found)}: DB_SSLMODE and DB_SSLROOTCERT say it here")
    if found := sorted(names & _FROM_A_FILE):
        problems.append(f"{where} says {', '.join(found)}: a file of the machine's is not read")
    if problems:
        raise ConfigurationError(problems)


def _require_place(host: str, number: Any) -> None:
    problems = []
    if "," in host:
        problems.append("the host is a list: one is connected to here")
    elif problem := host_problem(host):
        problems.append(f"the host {problem}")
    if problem := port_problem(number):
        problems.append(f"the port {problem}")
    if problems:
        raise ConfigurationError(problems)


def _tls(settings: Settings, host: str) -> dict[str, Any]:
    mode = settings.sslmode or ("prefer" if is_loopback(host) else "verify-full")
    if mode == "disable":
        return {"ssl_disabled": True}
    if mode in {"allow", "prefer"}:
        return {}  # PyMySQL's own way: encrypted where the server can, and not verified
    if mode.startswith("verify"):
        require_roots(mode, host, settings.sslrootcert)
    return {"ssl": _context(mode, settings.sslrootcert)}


@functools.cache
def _context(mode: str, roots: str | None) -> ssl.SSLContext:
    # Kept: to read RDS's bundle of authorities takes longer than a connect.
    trusted = None if roots in {None, "system"} else roots
    try:
        context = ssl.create_default_context(cafile=trusted)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError([f"DB_SSLROOTCERT={roots!r} cannot be read: {type(error).__name__}"]) from error
    # As OpenSSL does for libpq: an authority of some years ago lacks what the strict reading of X.509 asks for.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if mode.startswith("verify") else ssl.CERT_NONE
    return context
