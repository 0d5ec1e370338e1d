"""The way in: credentials, what a refusal says, and TLS with the server's certificate."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc

from db.errors import CapacityError, ConfigurationError, CredentialsError, DbError, sqlstate, verdict
from db.pool.connect_arguments import is_loopback

from .finding import error, not_applicable, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from db.settings import Settings

    from .finding import Finding

FAILURES = (DbError, exc.DBAPIError)
_CERTIFICATES = "start/packaging/#the-databases-certificates"
_SOON_DAYS = 30
_NOT_ALLOWED = "42501"
_NO_FILE = "58P01"
_TIMEOUT_S = 5.0
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # PostgreSQL's question ahead of TLS
_TAKEN = {
    "secret": "the secret could be read, and the server takes its login",
    "iam": "the server takes the token",
    "dsql": "the cluster takes the token",
    "url": "the server takes the URL's login",
}


def credentials(settings: Settings) -> Finding:
    """Of a connection that came to be."""
    if not settings.engine_kind.is_server:
        return not_applicable("credentials", f"{settings.engine_kind.title} asks for none")
    return ok("credentials", _TAKEN[settings.source])


def refusal(problem: Exception, settings: Settings) -> Iterator[Finding]:
    """Of one that did not. Messages of the layer say what to do; of the server's, its code and first line are shown."""
    match problem:
        case ConfigurationError():
            for said in problem.problems:
                yield error("connect", said, "Correct the setting that it names.", "run/errors/#configurationerror")
        case CredentialsError():
            remedy = "Let the function's role read the secret, and complete its keys."
            yield error("credentials", str(problem), remedy, "run/errors/#credentialserror")
        case CapacityError():
            remedy = "Make the sum with python -m devkit plan, and take less or give more."
            yield error("connect", str(problem), remedy, "run/errors/#capacityerror")
        case _ if not settings.engine_kind.is_server and sqlstate(problem) == _NO_FILE:
            seen = "there is no such file, or it may not be read: a migration would begin with an empty one"
            remedy = f"Correct the path in {settings.prefix}URL, or let a migration make it."
            yield error("connect", seen, remedy, "start/from-sqlalchemy/#sqlite")
        case _:
            yield _as_the_server_says(problem, "connect")


def unread(subject: str, problem: Exception) -> Finding:
    """Of a question to the server that failed. A login that may not read its catalogue can well do its work."""
    if sqlstate(problem) == _NOT_ALLOWED:
        return not_applicable(subject, f"the login may not read the server's catalogue: {_first_line(problem)}")
    return _as_the_server_says(problem, subject)


def table_unread(subject: str, table: str, problem: Exception, settings: Settings) -> Finding:
    """Of a look for ``table`` that failed, on an engine other than PostgreSQL."""
    code, is_server = sqlstate(problem), settings.engine_kind.is_server
    if is_server and code == _NOT_ALLOWED:  # MySQL says no more to who has no privilege on a table, be it there or not
        return not_applicable(subject, f"the login may use no table {table}: db.once would be refused")
    if not is_server and code in {_NOT_ALLOWED, _NO_FILE}:
        # Such a file can be opened: it is not read before.
        seen = "the file has a log beside it that cannot be read without writing, and a check writes nothing"
        remedy = "Let a unit of work or a migration open it, as who may write to its folder: that takes the log in."
        return warning(subject, seen, remedy, "start/from-sqlalchemy/#sqlite")
    return _as_the_server_says(problem, subject)


def _as_the_server_says(problem: Exception, subject: str) -> Finding:
    advice, code, said = verdict(problem), sqlstate(problem), _first_line(problem)
    remedy = f"Its verdict is {advice.value}: the page says what that asks for."
    return error(subject, f"{code}: {said}" if code else said, remedy, f"run/errors/#{advice.name.lower()}")


def _first_line(problem: Exception) -> str:
    return str(getattr(problem, "orig", problem)).partition("\n")[0]


def tls(driver: Any) -> Iterator[Finding]:
    """Whether the connection is encrypted, with whom, and until when."""
    params = driver.info.get_parameters()
    mode, host = params.get("sslmode", "prefer"), driver.info.host
    if not driver.pgconn.ssl_in_use:
        if is_loopback(host):
            yield ok("TLS", "none, and the connection leaves this machine by no network")
        else:
            remedy = "Leave DB_SSLMODE out, which is verify-full then, and set DB_SSLROOTCERT."
            yield error("TLS", f"none: sslmode is {mode}, and all is readable on its way", remedy, _CERTIFICATES)
        yield not_applicable("certificate", "there is no TLS")
        return
    if not mode.startswith("verify"):
        if is_loopback(host):
            yield ok("TLS", f"sslmode {mode}, on this machine")
        else:
            remedy = "Set DB_SSLMODE=verify-full and DB_SSLROOTCERT."
            yield warning("TLS", f"sslmode {mode}: any server is taken for the right one", remedy, _CERTIFICATES)
        yield not_applicable("certificate", f"sslmode {mode} does not look at it")
        return
    yield ok("TLS", f"sslmode {mode}")
    yield _certificate(driver, mode, params.get("sslrootcert"))


def _certificate(driver: Any, mode: str, roots: str | None) -> Finding:
    # libpq shows nothing of it, so it is asked for once more, on a connection that logs nobody in.
    context = ssl.create_default_context(cafile=None if roots == "system" else roots)
    context.check_hostname = mode == "verify-full"
    try:
        ends_at = _ends_at(context, driver)
    except (OSError, ValueError) as problem:
        return not_applicable("certificate", f"verified by libpq; not read a second time ({type(problem).__name__})")
    days = int((ends_at - time.time()) // 86_400)
    if days < _SOON_DAYS:
        remedy = "Renew it; RDS does so by itself where the instance may restart."
        return warning("certificate", f"the server's ends in {days} days", remedy, _CERTIFICATES)
    return ok("certificate", f"the server's is good for {days} days")


def _ends_at(context: ssl.SSLContext, driver: Any) -> float:
    address = driver.info.hostaddr or driver.info.host, driver.info.port
    with contextlib.closing(socket.create_connection(address, timeout=_TIMEOUT_S)) as plain:
        plain.sendall(_SSL_REQUEST)
        if plain.recv(1) != b"S":
            raise ValueError("no TLS")
        with context.wrap_socket(plain, server_hostname=driver.info.host) as secured:
            certificate = secured.getpeercert() or {}
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))
