"""Settings to engines: the dialect, the pool and what is told to both. No connection is opened here.

Which pool: ``pools``. How a connection is opened: ``connector``.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import URL, create_engine

import db.wire.psycopg_dialect  # with this module, and not in the first invocation
from db.errors import DOCUMENTATION, ConfigurationError
from db.wire.commit_outcome import note_commits
from db.wire.encoding import ENCODING, other_encoding
from db.wire.late_levels import refuse_late_levels
from db.wire.search_path import PlainPrologue, first_schema

from .engine_options import wrong_option
from .pools import plan_pool, tell_of_waits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Dialect, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection

    from db.settings import Settings
    from db.telemetry.connection_events import Connect, ConnectionEvents

    from .engine_options import EngineOptions


# RDS Proxy pins a session for a statement of more than 16 KB: with this many rows of an INSERT, some 300 bytes of text
# are left for each. https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy-pinning.html
_ROWS_BELOW_16_KB = 50
_ECHO: dict[str, bool | Literal["debug"]] = {"off": False, "on": True, "debug": "debug"}


def _own_url(settings: Settings) -> URL:
    """The URL of the settings, or one that a secret completes, with this package's dialect for its engine."""
    driver: str = importlib.import_module(f"{db.wire.__name__}.{settings.engine_kind.dialect}").DRIVER
    given = settings.url if settings.source == "url" else None
    return URL.create(driver) if given is None else given.set(drivername=driver)


def _refuse_other_encodings(settings: Settings, url: URL) -> None:
    """Raise ConfigurationError where the driver is told to speak another one: a tenant would be another string."""
    asked = {"DB_URL": other_encoding(url.query), "DB_CONNECT_ARGS": other_encoding(settings.connect_args)}
    problems = [f"{name} asks for client_encoding={other}: it is {ENCODING}" for name, other in asked.items() if other]
    if problems:
        raise ConfigurationError(problems)


def _create_async_engine(url: URL, **arguments: Any) -> Engine:
    # Imports the ORM: only who uses it.
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine(url, **arguments).sync_engine


def _async_driver(settings: Settings, url: URL) -> tuple[URL, dict[str, Any]]:
    """``url`` with the dialect that DB_ASYNC_DRIVER names, and that dialect's arguments. Raises ConfigurationError."""
    settings.engine_kind.require("aio", "db.aio")
    if settings.async_driver == "psycopg":
        return url, {}
    if settings.native_hstore:
        # SQLAlchemy has none there. asyncpg would have to look the type up for each connection anew.
        raise ConfigurationError(["DB_NATIVE_HSTORE is served by psycopg alone, not with DB_ASYNC_DRIVER=asyncpg"])
    try:
        from db.wire.asyncpg_dialect import DRIVER as ASYNCPG
    except ImportError as error:
        problem = f"DB_ASYNC_DRIVER=asyncpg needs the package asyncpg: see {DOCUMENTATION}use/aio/#asyncpg"
        raise ConfigurationError([problem]) from error
    return url.set(drivername=ASYNCPG), {"names_statements": settings.proxy == "none"}


def _json_functions(settings: Settings, given: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    """``create_engine``'s arguments for DB_JSON. Raises ConfigurationError."""
    if settings.json == "json":
        return {}
    if twice := sorted({"json_deserializer", "json_serializer"} & given.keys()):
        raise ConfigurationError([wrong_option(f"{' and '.join(twice)}: DB_JSON={settings.json} says it already")])
    try:
        from db.wire.orjson_codec import dumps, loads
    except ImportError as error:
        problem = f"DB_JSON=orjson needs the package orjson: see {DOCUMENTATION}use/reads/#json"
        raise ConfigurationError([problem]) from error
    reading: dict[str, Callable[..., Any]] = {"json_deserializer": loads}
    # There what was written before must still be found.
    return reading if settings.engine_kind.compares_json_as_text else reading | {"json_serializer": dumps}


def _require_option(name: str, create: Callable[[], Engine]) -> None:
    """Raise ConfigurationError where no engine can be made with the option ``name``."""
    try:
        create()
    except Exception as error:
        is_none = isinstance(error, TypeError) and f"Invalid argument(s) '{name}'" in str(error)
        said = "it is no argument of create_engine" if is_none else f"{type(error).__name__}: {error}"
        raise ConfigurationError([wrong_option(f"{name} cannot be served: {said}")]) from error


def _connect_as_given(dialect: Dialect, cargs: Sequence[Any], cparams: dict[str, Any], *_: Any) -> DBAPIConnection:
    """A database in this process has neither credentials nor a wire: the URL says all."""
    return dialect.connect(*cargs, **cparams)


def build_engine(
    settings: Settings,
    connect: Connect,
    events: ConnectionEvents,
    *,
    asynchronous: bool = False,
    further: EngineOptions | None = None,
) -> Engine:
    """An engine watched by ``events``, whose connections ``connect`` opens; none is opened yet."""
    kind = settings.engine_kind
    plan = plan_pool(settings, asynchronous=asynchronous)
    url = _own_url(settings)
    arguments = dict(plan.arguments)
    if kind.is_server:
        _refuse_other_encodings(settings, url)
    else:
        arguments["connect_args"] = settings.connect_args
    if settings.native_hstore:
        arguments["use_native_hstore"] = True
    if asynchronous:
        url, of_driver = _async_driver(settings, url)
        arguments |= of_driver
    if settings.schema:
        # What SQLAlchemy would ask the server for; it takes tables without a schema to be there.
        arguments["default_schema_name"] = first_schema(settings.schema)
        if settings.proxy != "none":
            arguments["plain_prologue"] = PlainPrologue(settings.schema, settings.proxy == "rds-proxy")
    if settings.proxy == "rds-proxy":
        arguments["insertmanyvalues_page_size"] = _ROWS_BELOW_16_KB
    create = _create_async_engine if asynchronous else create_engine
    arguments |= {
        "poolclass": plan.pool_class,
        "echo": _ECHO[settings.echo],
        "echo_pool": _ECHO[settings.echo_pool],
        "hide_parameters": settings.hide_parameters,
    }
    given = further.arguments() if further is not None else {}
    arguments |= _json_functions(settings, given)
    try:
        engine = create(url, **(arguments | given))
    except Exception:
        # SQLAlchemy does not say which of them it was. Without any, it is not theirs.
        for name in given:
            _require_option(name, functools.partial(create, url, **(arguments | {name: given[name]})))
        raise
    if not getattr(engine.dialect, "notes_commits", False):
        note_commits(engine.dialect)
    refuse_late_levels(engine.dialect)
    tell_of_waits(engine, events.waits)
    events.watch(engine, connect if kind.is_server else _connect_as_given)
    return engine
