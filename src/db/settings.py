"""The settings: one table of name, type, default, floor, unit and sentence. Read once, then sealed.

Everything that names a setting is checked against this table: the documented one is printed from it (``python -m devkit
settings``), ``template.yaml`` is compared with it. It does not open secrets; see ``credentials``.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sqlalchemy import URL, exc, make_url

from .errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PREFIX = "DB_"

# What DB_CONNECT_ARGS may not hold: a way around the setting would be a way around its checks too.
_HAVE_SETTINGS = {"password", "user", "host", "port", "dbname", "application_name", "sslmode", "sslrootcert"}
_MOST_SECONDS = 2_147_483  # PostgreSQL counts milliseconds in 31 bits

# The words for a boolean, in any case.
FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

Auth = Literal["secret", "iam", "url"]
PoolKind = Literal["queue", "null", "static"]
AsyncDriver = Literal["psycopg", "asyncpg"]
Proxy = Literal["none", "pgbouncer", "rds-proxy"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
Echo = Literal["off", "on", "debug"]
SqlComments = Literal["off", "function", "request"]
Trace = Literal["off", "xray", "otel"]


def _whole(raw: str) -> int:
    try:
        return int(raw)
    except ValueError:
        raise ValueError("is not a whole number") from None


def _seconds(raw: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        raise ValueError("is not a number of seconds") from None
    if value in (float("inf"), float("-inf")) or value != value:  # noqa: PLR0124 - NaN is the one unequal to itself
        raise ValueError("is not a finite number of seconds")
    return value


def _flag(raw: str) -> bool:
    if raw.lower() in FLAGS:
        return FLAGS[raw.lower()]
    raise ValueError("is neither true nor false")


def _choice(*names: str) -> _Kind:
    def convert(raw: str) -> str:
        if raw not in names:
            raise ValueError(f"is none of {', '.join(names)}")
        return raw

    return _Kind(convert, (str,), names)


def _url(raw: str) -> URL:
    # Not `from error`: its message repeats the URL, and with it the password.
    try:
        url = make_url(raw)
    except (exc.ArgumentError, ValueError):
        raise ValueError("is not a SQLAlchemy URL") from None
    try:
        url.get_dialect().import_dbapi()
    except (exc.NoSuchModuleError, ImportError):
        raise ValueError(f"names a driver that is not installed, {url.drivername!r}") from None
    return url


def _json_object(raw: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - every converter raises ValueError
    return value


class _Kind(NamedTuple):
    """How a setting is read from text, and what it may be when it is given as a value."""

    convert: Callable[[str], Any]
    types: tuple[type, ...]
    names: tuple[str, ...] = ()

    def problem(self, value: object) -> str | None:
        if not isinstance(value, self.types) or (isinstance(value, bool) and bool not in self.types):
            return f"is a {type(value).__name__}, not a {self.types[0].__name__}"
        return f"is none of {', '.join(self.names)}: {value!r}" if self.names and value not in self.names else None


def _setting(
    default: Any,
    kind: _Kind,
    sentence: str,
    *,
    floor: float | None = None,
    secret: bool = False,
    page: str | None = None,
) -> Any:
    # ``page`` is where docs/ says more.
    metadata = {"kind": kind, "sentence": sentence, "floor": floor, "secret": secret, "page": page}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


_TEXT = _Kind(str, (str,))
_WHOLE = _Kind(_whole, (int,))
_SECONDS = _Kind(_seconds, (float, int))
_FLAG = _Kind(_flag, (bool,))
_URL = _Kind(_url, (URL,))
_JSON_OBJECT = _Kind(_json_object, (dict,))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the layer may be told. Raises ConfigurationError, with every problem at once, when built from bad values.

    A field ``x_y`` is read from ``DB_X_Y``; a name that ends in ``_s`` is in seconds.
    """

    # Where the database is, and as whom to enter.
    secret_id: str | None = _setting(None, _TEXT, "Name or ARN of the Secrets Manager secret.")
    url: URL | None = _setting(
        None, _URL, "SQLAlchemy URL instead of a secret, for local work and unit tests.", secret=True
    )
    auth: Auth | None = _setting(
        None,
        _choice("secret", "iam", "url"),
        "Source of the credentials; follows from DB_SECRET_ID or DB_URL when unset.",
    )
    host: str | None = _setting(None, _TEXT, "Server; overrides the secret's.")
    port: int | None = _setting(None, _WHOLE, "Port; overrides the secret's; 5432 when neither names one.", floor=1)
    name: str | None = _setting(None, _TEXT, "Database; overrides the secret's.")
    user: str | None = _setting(None, _TEXT, "User; overrides the secret's; needed for DB_AUTH=iam.")
    reader_host: str | None = _setting(None, _TEXT, "Server for db.read(); the writer when unset.")
    reader_port: int | None = _setting(None, _WHOLE, "Port of the reader; the writer's when unset.", floor=1)
    reader_max_lag_s: float | None = _setting(
        None, _SECONDS, "How far behind a reader may be for db.read(); any lag when unset (not for Aurora).", floor=0.1
    )
    secret_ttl_s: float = _setting(
        3600.0, _SECONDS, "Age at which a cached secret is fetched again; a refused password does so at once.", floor=1
    )

    # The pool.
    pool: PoolKind = _setting(
        "queue",
        _choice("queue", "null", "static"),
        "queue: module-level engine that keeps its connection; null: a connection per checkout; static: SQLite only.",
    )
    pool_size: int = _setting(
        1, _WHOLE, "Connections kept; a standard environment serves one event at a time.", floor=1
    )
    max_overflow: int = _setting(0, _WHOLE, "Connections allowed beyond DB_POOL_SIZE, closed on return.", floor=0)
    async_connections: int = _setting(
        4, _WHOLE, "Connections of db.aio, for each endpoint; with DB_POOL=queue they are kept.", floor=1
    )
    async_driver: AsyncDriver = _setting(
        "psycopg", _choice("psycopg", "asyncpg"), "Driver of db.aio.", page="use/aio.md#asyncpg"
    )
    pool_timeout_s: float = _setting(5.0, _SECONDS, "Longest wait for a pooled connection.", floor=0)
    pool_recycle_s: float = _setting(600.0, _SECONDS, "Age at which a connection is replaced, by wall clock.", floor=1)
    pool_idle_s: float = _setting(
        300.0, _SECONDS, "Idle time after which it is replaced; NAT gateways forget a flow after 350 s.", floor=1
    )
    pool_pre_ping: bool = _setting(True, _FLAG, "Check that a kept connection lives before using it.")

    # The wire.
    proxy: Proxy = _setting("none", _choice("none", "pgbouncer", "rds-proxy"), "What stands before the server.")
    sslmode: SslMode | None = _setting(
        None,
        _choice("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        "libpq's sslmode; verify-full when unset, unless the host is loopback.",
    )
    sslrootcert: str | None = _setting(
        None, _TEXT, "File with the certificates to trust.", page="start/packaging.md#the-databases-certificates"
    )
    connect_args: dict[str, Any] = _setting(
        {}, _JSON_OBJECT, "JSON object of further arguments to the driver's connect.", secret=True
    )
    native_hstore: bool = _setting(
        False,
        _FLAG,
        "Read and bind hstore as dict in statements without types too; two more trips at an engine's first connect.",
    )
    schema: str | None = _setting(None, _TEXT, "search_path of every connection.")
    application_name: str | None = _setting(None, _TEXT, "Name in pg_stat_activity; the function's name when unset.")
    application_name_request_id: bool = _setting(
        True, _FLAG, "Add the request id to that name, for each transaction of an invocation."
    )

    # Time.
    connect_timeout_s: float = _setting(
        5.0, _SECONDS, "Longest connect, in whole seconds; libpq's floor is 2.", floor=2
    )
    connect_wait_s: float = _setting(
        30.0,
        _SECONDS,
        "Longest wait for a database that restarts, is full or rotates its password; the deadline may shorten it.",
        floor=0,
    )
    statement_timeout_s: float = _setting(
        30.0, _SECONDS, "Longest statement; the deadline may shorten it.", floor=0.001
    )
    lock_timeout_s: float = _setting(
        10.0, _SECONDS, "Longest wait for a lock; always shorter than what the statement may take.", floor=0.001
    )
    deadline_reserve_s: float = _setting(
        0.5, _SECONDS, "Kept of the invocation's time to answer after a cancelled statement.", floor=0
    )

    # The environment's end.
    shutdown_hook: bool = _setting(
        True,
        _FLAG,
        "Register for SIGTERM, and close every connection when it comes.",
        page="run/lifecycle.md#shutdown-and-timeout",
    )

    # Rules and what is seen.
    tenant_required: bool = _setting(False, _FLAG, "Refuse a transaction or read for which no tenant is bound.")
    slow_query_s: float = _setting(1.0, _SECONDS, "A statement that takes longer is logged, without values.", floor=0)
    statement_repeats: int = _setting(
        20, _WHOLE, "Runs of one statement in an invocation beyond which it is warned of; 0 is off.", floor=0
    )
    sql_comments: SqlComments = _setting(
        "off",
        _choice("off", "function", "request"),
        "Comment behind each statement that names the function, or with request also the request and its trace.",
    )
    trace: Trace = _setting(
        "off",
        _choice("off", "xray", "otel"),
        "A span for each statement and connect.",
        page="run/observability.md#spans",
    )
    echo: Echo = _setting(
        "off",
        _choice("off", "on", "debug"),
        "SQLAlchemy's echo in the log: of SQL, or with debug of SQL and the rows that came back.",
    )
    echo_pool: Echo = _setting("off", _choice("off", "on", "debug"), "SQLAlchemy's echo of the pool.")
    hide_parameters: bool = _setting(
        True, _FLAG, "Keep bound values out of SQLAlchemy's log and exception texts; the server may still quote one."
    )

    # Not a setting of ours: Lambda says it.
    function_name: str | None = field(default=None, metadata={})

    def __post_init__(self) -> None:
        problems = list(_wrong_values(self)) or [*_below_floor(self), *_contradictions(self)]
        if problems:
            raise ConfigurationError(problems)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """The settings that ``environ`` holds; an empty variable counts as unset.

        Raises ConfigurationError with all problems: values that do not parse, near misses of a setting's name,
        contradictions among the rest.
        """
        table = {PREFIX + f.name.upper(): f for f in fields()}
        problems = list(_misspelt(environ, table))
        values: dict[str, Any] = {"function_name": environ.get("AWS_LAMBDA_FUNCTION_NAME") or None}
        for name, setting in table.items():
            raw = environ.get(name, "").strip()
            if not raw:
                continue
            try:
                values[setting.name] = setting.metadata["kind"].convert(raw)
            except ValueError as error:
                shown = "" if setting.metadata["secret"] else f": {raw[:80]!r}"
                problems.append(f"{name} {error}{shown}")
        try:
            settings = cls(**values)
        except ConfigurationError as error:
            raise ConfigurationError([*problems, *error.problems]) from None
        if problems:
            raise ConfigurationError(problems)
        return settings

    @property
    def source(self) -> Auth:
        """Where the credentials come from: ``auth``, or what the other settings imply."""
        if self.auth is not None:
            return self.auth
        return "url" if self.url is not None else "secret"

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is SQLite, which has neither a wire nor credentials."""
        return self.source == "url" and self.url is not None and self.url.get_backend_name() == "sqlite"


def fields() -> Iterator[dataclasses.Field[Any]]:
    """The rows of the table, in order."""
    return (f for f in dataclasses.fields(Settings) if f.metadata)


def single(environ: Mapping[str, str], name: str) -> Any:
    """The setting of field ``name``, for what is decided before all of them are read.

    A value that does not parse counts as unset; ``from_env`` says what is wrong with it, and can be answered for.
    """
    setting = Settings.__dataclass_fields__[name]
    raw = environ.get(PREFIX + name.upper(), "").strip()
    try:
        return setting.metadata["kind"].convert(raw) if raw else setting.default
    except ValueError:
        return setting.default


def _misspelt(environ: Mapping[str, str], table: Mapping[str, object]) -> Iterator[str]:
    # Only near misses: DB_PASSWORD and the like may be there for another program's sake.
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in table)
    if unknown:
        import difflib

        for name in unknown:
            for meant in difflib.get_close_matches(name, table, n=1, cutoff=0.85):
                yield f"{name} is not a setting: is {meant} meant?"


def _wrong_values(settings: Settings) -> Iterator[str]:
    for f in fields():
        value = getattr(settings, f.name)
        if value is not None and (problem := f.metadata["kind"].problem(value)):
            yield f"{PREFIX}{f.name.upper()} {problem}"


def _below_floor(settings: Settings) -> Iterator[str]:
    for f in fields():
        value, floor = getattr(settings, f.name), f.metadata["floor"]
        if floor is not None and value is not None and value < floor:
            yield f"{PREFIX}{f.name.upper()} is {value}, below its floor of {floor}"


def _contradictions(settings: Settings) -> Iterator[str]:
    yield from _entry_problems(settings)
    if settings.pool == "static" and not settings.is_sqlite:
        yield "DB_POOL=static shares one connection and is for SQLite only"
    if settings.native_hstore and settings.is_sqlite:
        yield "DB_NATIVE_HSTORE is for PostgreSQL only"
    if settings.pool == "null" and (settings.pool_size, settings.max_overflow) != (1, 0):
        yield "DB_POOL=null keeps no connection, so DB_POOL_SIZE and DB_MAX_OVERFLOW say nothing"
    if settings.statement_timeout_s > _MOST_SECONDS:
        yield f"DB_STATEMENT_TIMEOUT_S is {settings.statement_timeout_s:g}, above PostgreSQL's {_MOST_SECONDS}"
    if settings.sslmode in {"verify-ca", "verify-full"} and not settings.sslrootcert:
        yield f"DB_SSLMODE={settings.sslmode} needs DB_SSLROOTCERT"
    reserved = sorted(_HAVE_SETTINGS & settings.connect_args.keys())
    if reserved:
        yield f"DB_CONNECT_ARGS holds {', '.join(reserved)}, which have settings or a secret of their own"


def _entry_problems(settings: Settings) -> Iterator[str]:
    if settings.auth is None and settings.secret_id and settings.url:
        yield "DB_SECRET_ID and DB_URL are both set: choose one, or say which with DB_AUTH"
    match settings.source:
        case "secret" if not settings.secret_id:
            yield "no database: set DB_SECRET_ID, DB_URL, or DB_AUTH=iam with DB_HOST, DB_NAME and DB_USER"
        case "url" if settings.url is None:
            yield "DB_AUTH=url needs DB_URL"
        case "iam":
            for name in ("host", "name", "user"):
                if not getattr(settings, name):
                    yield f"DB_AUTH=iam needs {PREFIX}{name.upper()}"
            if settings.sslmode in {"disable", "allow", "prefer"}:
                yield f"DB_AUTH=iam sends its token only over TLS, which DB_SSLMODE={settings.sslmode} does not ensure"
