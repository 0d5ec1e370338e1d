"""What is wrong with settings that could each be read: a value of another type, too low, or against another one."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from .kinds import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

# What the functions here are given is a ``Settings``. Its module imports this one, so they cannot name it.

# What DB_CONNECT_ARGS may not hold: a way around the setting would be a way around its checks too.
_HAVE_SETTINGS = {"password", "user", "host", "port", "dbname", "application_name", "sslmode", "sslrootcert"}
_MOST_SECONDS = 2_147_483  # PostgreSQL counts milliseconds in 31 bits
_NO_DATABASE = "no database: set DB_SECRET_ID, DB_URL, or DB_AUTH=iam with DB_HOST, DB_NAME and DB_USER"
_NO_URL = "DB_AUTH=url needs DB_URL"
# What is said of a URL that was given and cannot be read is that, and not that there is none.
WITHOUT_URL = {_NO_DATABASE, _NO_URL}


def rows(of: Any) -> Iterator[dataclasses.Field[Any]]:
    """The fields that are settings."""
    return (f for f in dataclasses.fields(of) if f.metadata)


def wrong_values(settings: Any) -> Iterator[str]:
    """Values of another type, or none of the words of a choice: what cannot be compared further."""
    for f in rows(settings):
        value = getattr(settings, f.name)
        if value is not None and (problem := f.metadata["kind"].problem(value)):
            yield f"{PREFIX}{f.name.upper()} {problem}"


def contradictions(settings: Any) -> Iterator[str]:
    """Values below their floor, and those that cannot both be meant."""
    yield from _out_of_range(settings)
    yield from _entry_problems(settings)
    yield from _unserved(settings)
    yield from _above_the_engines(settings)
    if settings.pool == "static" and settings.engine_kind.is_server:
        yield "DB_POOL=static shares one connection and is for SQLite only"
    if settings.sqlite_tenants != "refused" and settings.engine_kind.is_server:
        yield f"DB_SQLITE_TENANTS is for unit tests on SQLite, and the database is {settings.engine_kind.title}"
    if settings.pool == "null" and (settings.pool_size, settings.max_overflow) != (1, 0):
        yield "DB_POOL=null keeps no connection, so DB_POOL_SIZE and DB_MAX_OVERFLOW say nothing"
    if settings.prepare:
        yield from _unprepared(settings)
    if settings.pool == "null" and settings.warm != "off":
        yield "DB_POOL=null keeps no connection, so DB_WARM=init would open one for nobody"
    if settings.statement_timeout_s > _MOST_SECONDS:
        yield f"DB_STATEMENT_TIMEOUT_S is {settings.statement_timeout_s:g}, above PostgreSQL's {_MOST_SECONDS}"
    if settings.sslmode in {"verify-ca", "verify-full"} and not settings.sslrootcert:
        yield f"DB_SSLMODE={settings.sslmode} needs DB_SSLROOTCERT"
    reserved = sorted(_HAVE_SETTINGS & settings.connect_args.keys())
    if reserved:
        yield f"DB_CONNECT_ARGS holds {', '.join(reserved)}, which have settings or a secret of their own"


def _out_of_range(settings: Any) -> Iterator[str]:
    for f in rows(settings):
        value, floor = getattr(settings, f.name), f.metadata["floor"]
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{PREFIX}{f.name.upper()} is not a finite number of seconds: {value}"
        elif floor is not None and value is not None and value < floor:
            yield f"{PREFIX}{f.name.upper()} is {value}, below its floor of {floor}"


def _unprepared(settings: Any) -> Iterator[str]:
    """Who keeps no statement by its name."""
    if settings.proxy == "rds-proxy":
        yield "DB_PREPARE with DB_PROXY=rds-proxy: a prepared statement pins the session"
    if settings.async_driver == "asyncpg":
        yield "DB_PREPARE with DB_ASYNC_DRIVER=asyncpg: names are psycopg's alone, which is the other driver of db.aio"
    if "prepare_threshold" in settings.connect_args:
        yield "DB_PREPARE and prepare_threshold of DB_CONNECT_ARGS are the same: leave the latter out"


def _unserved(settings: Any) -> Iterator[str]:
    """What the engine cannot do and was set: ignored, it would be a promise that nobody keeps."""
    kind = settings.engine_kind
    for f in rows(settings) if kind.unserved else ():
        is_let = f.name == "tenant_required" and settings.sqlite_tenants == "unchecked"
        if (why := kind.unserved.get(f.name)) and getattr(settings, f.name) != f.default and not is_let:
            yield f"{PREFIX}{f.name.upper()} on {kind.title}: {why}"


def _above_the_engines(settings: Any) -> Iterator[str]:
    """What the engine would cut short."""
    kind = settings.engine_kind
    for name, (most, why) in kind.at_most.items():
        if (value := getattr(settings, name)) > most:
            yield f"{PREFIX}{name.upper()} is {value:g}, above the {most:g} of {kind.title}: {why}"


def _entry_problems(settings: Any) -> Iterator[str]:
    if settings.auth is None and settings.secret_id and settings.url:
        yield "DB_SECRET_ID and DB_URL are both set: choose one, or say which with DB_AUTH"
    if settings.engine is not None and settings.source == "url" and settings.engine != settings.engine_kind.name:
        yield f"DB_ENGINE={settings.engine} contradicts DB_URL, which names {settings.engine_kind.name}"
    match settings.source:
        case "secret" if not settings.secret_id:
            yield _NO_DATABASE
        case "url" if settings.url is None:
            yield _NO_URL
        case "url" if settings.url is not None and not (
            settings.name or not settings.engine_kind.is_server or _names_a_database(settings.url)
        ):
            yield "DB_URL names no database: write it behind the host, postgresql://host/database, or set DB_NAME"
        case "iam":
            yield from _iam_problems(settings)
        case "dsql":
            yield from _dsql_problems(settings)


def _iam_problems(settings: Any) -> Iterator[str]:
    for name in ("host", "name", "user"):
        if not getattr(settings, name):
            yield f"DB_AUTH=iam needs {PREFIX}{name.upper()}"
    if settings.sslmode in {"disable", "allow", "prefer"}:
        yield f"DB_AUTH=iam sends its token only over TLS, which DB_SSLMODE={settings.sslmode} does not ensure"


def _dsql_problems(settings: Any) -> Iterator[str]:
    from .engines.dsql import DATABASE, region_of

    for name in ("host", "user"):
        if not getattr(settings, name):
            yield f"DB_AUTH=dsql needs {PREFIX}{name.upper()}"
    if settings.host and region_of(settings.host) is None:
        yield f"DB_HOST is {settings.host!r}, and an endpoint of Aurora DSQL is called <cluster>.dsql.<region>.on.aws"
    if settings.name not in {None, DATABASE}:
        yield f"DB_NAME is {settings.name!r}, and a cluster of Aurora DSQL has the database {DATABASE} and no other"
    if settings.sslmode not in {None, "verify-full"}:
        yield f"DB_AUTH=dsql sends its token to a server of that name alone: not with DB_SSLMODE={settings.sslmode}"


def _names_a_database(url: URL) -> bool:
    # By libpq's word, or by an entry in its service file, too.
    return bool(url.database or {"dbname", "service"} & url.query.keys())
