"""``Settings``: the table of settings, read from the environment or given in code, and then sealed."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import URL

from db.errors import ConfigurationError

from .checks import WITHOUT_URL, contradictions, rows, wrong_values
from .engines.kinds import NAMES, kind_named
from .kinds import FLAG, JSON_OBJECT, PREFIX, SECONDS, TEXT, URL_OR_TEXT, WHOLE, choice, setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .engines.kinds import EngineKind

    class UrlOrText:
        """For the type checkers: text is taken for a URL, and a URL is what is there."""

        def __get__(self, settings: object, owner: object) -> URL | None: ...
        def __set__(self, settings: object, value: URL | str | None) -> None: ...


Auth = Literal["secret", "iam", "dsql", "url"]
PoolKind = Literal["queue", "null", "static"]
AsyncDriver = Literal["psycopg", "asyncpg"]
Engine = Literal["postgresql", "mysql", "mariadb"]
Proxy = Literal["none", "pgbouncer", "rds-proxy"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
Echo = Literal["off", "on", "debug"]
Json = Literal["json", "orjson"]
SqlComments = Literal["off", "function", "request"]
Warm = Literal["off", "init"]
Trace = Literal["off", "xray", "otel"]
Metrics = Literal["emf", "otel", "both", "off"]
SqliteTenants = Literal["refused", "unchecked"]
TenantAudit = Literal["warn", "refuse", "off"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the layer may be told. Raises ConfigurationError, with every problem at once, when built from bad values.

    A field ``x_y`` is read from ``DB_X_Y``; a name that ends in ``_s`` is in seconds.
    """

    # Where the database is, and as whom to enter.
    secret_id: str | None = setting(None, TEXT, "Name or ARN of the Secrets Manager secret.")
    url: UrlOrText = setting(
        None, URL_OR_TEXT, "SQLAlchemy URL instead of a secret, for local work and unit tests.", secret=True
    )
    auth: Auth | None = setting(
        None,
        choice("secret", "iam", "dsql", "url"),
        "Source of the credentials; follows from DB_SECRET_ID or DB_URL when unset. dsql: a token for Aurora DSQL.",
        page="use/dsql.md",
    )
    engine: Engine | None = setting(
        None,
        choice("postgresql", "mysql", "mariadb"),
        "What the secret or the token is for; PostgreSQL when unset. DB_URL says so itself.",
        page="use/mysql.md",
    )
    host: str | None = setting(None, TEXT, "Server; overrides the secret's.")
    port: int | None = setting(
        None, WHOLE, "Port; overrides the secret's; 5432 when neither names one, 3306 on MySQL.", floor=1
    )
    name: str | None = setting(None, TEXT, "Database; overrides the secret's.")
    user: str | None = setting(None, TEXT, "User; overrides the secret's; needed for DB_AUTH=iam and dsql.")
    reader_host: str | None = setting(None, TEXT, "Server for db.read(); the writer when unset.")
    reader_port: int | None = setting(None, WHOLE, "Port of the reader; the writer's when unset.", floor=1)
    reader_max_lag_s: float | None = setting(
        None, SECONDS, "How far behind a reader may be for db.read(); any lag when unset.", floor=0.1
    )
    secret_ttl_s: float = setting(
        3600.0, SECONDS, "Age at which a cached secret is fetched again; a refused password does so at once.", floor=1
    )

    # The pool.
    pool: PoolKind = setting(
        "queue",
        choice("queue", "null", "static"),
        "queue: module-level engine that keeps its connection; null: a connection per checkout; static: SQLite only.",
    )
    pool_size: int = setting(1, WHOLE, "Connections kept; a standard environment serves one event at a time.", floor=1)
    max_overflow: int = setting(0, WHOLE, "Connections allowed beyond DB_POOL_SIZE, closed on return.", floor=0)
    async_connections: int = setting(
        4, WHOLE, "Connections of db.aio, for each endpoint; with DB_POOL=queue they are kept.", floor=1
    )
    async_driver: AsyncDriver = setting(
        "psycopg", choice("psycopg", "asyncpg"), "Driver of db.aio.", page="use/aio.md#asyncpg"
    )
    pool_timeout_s: float = setting(5.0, SECONDS, "Longest wait for a pooled connection.", floor=0)
    pool_recycle_s: float = setting(600.0, SECONDS, "Age at which a connection is replaced, by wall clock.", floor=1)
    pool_idle_s: float = setting(
        300.0, SECONDS, "Idle time after which it is replaced; NAT gateways forget a flow after 350 s.", floor=1
    )
    pool_pre_ping: bool = setting(True, FLAG, "Check that a kept connection lives before using it.")

    # The wire.
    proxy: Proxy = setting("none", choice("none", "pgbouncer", "rds-proxy"), "What stands before the server.")
    sslmode: SslMode | None = setting(
        None,
        choice("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        "libpq's sslmode; verify-full when unset, unless the host is loopback.",
    )
    sslrootcert: str | None = setting(
        None, TEXT, "File with the certificates to trust.", page="start/packaging.md#the-databases-certificates"
    )
    connect_args: dict[str, Any] = setting(
        {}, JSON_OBJECT, "JSON object of further arguments to the driver's connect.", secret=True
    )
    prepare: int = setting(
        0,
        WHOLE,
        "Runs of a statement on a connection after which it goes by a name that the server has parsed; 0 names none.",
        floor=0,
        page="reference/wire.md#prepared-statements",
    )
    native_hstore: bool = setting(
        False,
        FLAG,
        "Read and bind hstore as dict in statements without types too; two more trips at an engine's first connect.",
    )
    json: Json = setting(
        "json",
        choice("json", "orjson"),
        "Reads and writes JSON columns: the standard library, or the package orjson, which is faster.",
        page="use/reads.md#json",
    )
    schema: str | None = setting(None, TEXT, "search_path of every connection.")
    application_name: str | None = setting(None, TEXT, "Name in pg_stat_activity; the function's name when unset.")
    application_name_request_id: bool = setting(
        True, FLAG, "Add the request id to that name, for each transaction of an invocation."
    )

    # Time.
    connect_timeout_s: float = setting(5.0, SECONDS, "Longest connect, in whole seconds; libpq's floor is 2.", floor=2)
    connect_wait_s: float = setting(
        30.0,
        SECONDS,
        "Longest wait for a database that restarts, is full or rotates its password; the deadline may shorten it.",
        floor=0,
    )
    statement_timeout_s: float = setting(30.0, SECONDS, "Longest statement; the deadline may shorten it.", floor=0.001)
    lock_timeout_s: float = setting(
        10.0, SECONDS, "Longest wait for a lock; always shorter than what the statement may take.", floor=0.001
    )
    deadline_reserve_s: float = setting(
        0.5, SECONDS, "Kept of the invocation's time to answer after a cancelled statement.", floor=0
    )

    # The environment's beginning and end.
    warm: Warm = setting(
        "off",
        choice("off", "init"),
        "init: the first @db.invocation fetches the secret and connects, within Init; not under SnapStart.",
        page="run/cold-start.md#connecting-in-init",
    )
    shutdown_hook: bool = setting(
        True,
        FLAG,
        "Register for SIGTERM, and close every connection when it comes.",
        page="run/lifecycle.md#shutdown-and-timeout",
    )

    # Rules and what is seen.
    tenant_required: bool = setting(False, FLAG, "Refuse a transaction or read for which no tenant is bound.")
    tenant_audit: TenantAudit = setting(
        "warn",
        choice("warn", "refuse", "off"),
        "What a migration that leaves tenants open to one another ends in: a warning, or nothing of it is kept.",
        page="start/tenants.md#after-a-migration",
    )
    sqlite_tenants: SqliteTenants = setting(
        "refused",
        choice("refused", "unchecked"),
        "SQLite cannot keep tenants apart; unchecked, for unit tests, lets a tenant pass and shows it every row.",
        page="start/from-sqlalchemy.md#sqlite",
    )
    slow_query_s: float = setting(1.0, SECONDS, "A statement that takes longer is logged, without values.", floor=0)
    statement_repeats: int = setting(
        20, WHOLE, "Runs of one statement in an invocation beyond which it is warned of; 0 is off.", floor=0
    )
    sql_comments: SqlComments = setting(
        "off",
        choice("off", "function", "request"),
        "Comment behind each statement that names the function, or with request also the request and its trace.",
    )
    trace: Trace = setting(
        "off",
        choice("off", "xray", "otel"),
        "A span for each statement and connect.",
        page="run/observability.md#spans",
    )
    metrics: Metrics = setting(
        "emf",
        choice("emf", "otel", "both", "off"),
        "emf: an invocation's numbers to CloudWatch; otel: pools and statements to OpenTelemetry; both, or neither.",
        page="run/observability.md#metrics",
    )
    echo: Echo = setting(
        "off",
        choice("off", "on", "debug"),
        "SQLAlchemy's echo in the log: of SQL, or with debug of SQL and the rows that came back.",
    )
    echo_pool: Echo = setting("off", choice("off", "on", "debug"), "SQLAlchemy's echo of the pool.")
    hide_parameters: bool = setting(
        True, FLAG, "Keep bound values out of SQLAlchemy's log and exception texts; the server may still quote one."
    )

    ignore: str | None = setting(
        None, TEXT, "Names that look like settings of this table and are another program's, with commas between."
    )

    # Not a setting of ours: Lambda says it.
    function_name: str | None = field(default=None, metadata={})
    # Nor these: which database it is for, None for the default one, and how its variables begin.
    database: str | None = field(default=None, metadata={})
    prefix: str = field(default=PREFIX, metadata={})

    def __post_init__(self) -> None:
        unread = self._read_url()
        problems = list(wrong_values(self)) or list(contradictions(self))
        if unread:
            problems = [unread, *(problem for problem in problems if problem not in WITHOUT_URL)]
        if problems:
            raise ConfigurationError(problems)

    def _read_url(self) -> str | None:
        """Make one URL of whatever spelling was given; what is wrong with it, where that cannot be done."""
        given: Any = self.url
        if not isinstance(given, (str, URL)):
            return None
        from .urls import read

        try:
            url, problem = read(given), None
        except ValueError as error:
            url, problem = None, f"DB_URL {error}"
        object.__setattr__(self, "url", url)  # as the dataclass's own __init__ does
        return problem

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """The settings that ``environ`` holds; an empty variable counts as unset.

        Raises ConfigurationError with all problems: values that do not parse, names that people write instead of a
        setting's, contradictions among the rest.
        """
        table = {PREFIX + f.name.upper(): f for f in fields()}
        problems: list[str] = []
        values: dict[str, Any] = {"function_name": environ.get("AWS_LAMBDA_FUNCTION_NAME") or None}
        for name, row in table.items():
            raw = environ.get(name, "").strip()
            if not raw:
                continue
            try:
                values[row.name] = row.metadata["kind"].convert(raw)
            except ValueError as error:
                shown = "" if row.metadata["secret"] else f": {raw[:80]!r}"
                problems.append(f"{name} {error}{shown}")
        if _may_hold_mistakes(environ):
            from .names import mistaken

            problems = [*mistaken(environ, table, ignored=values.get("ignore") or ""), *problems]
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

    @functools.cached_property
    def engine_kind(self) -> EngineKind:
        """What the database is, and so what it can: as DB_URL says, or for a secret or a token DB_ENGINE."""
        name: str
        if self.source == "dsql":
            name = self.source
        elif self.source == "url" and self.url is not None:
            name = self.url.get_backend_name()
        else:
            name = self.engine or NAMES[0]
        kind = kind_named(name)
        assert kind is not None  # noqa: S101 - no other URL is taken
        return kind


def fields() -> Iterator[dataclasses.Field[Any]]:
    """The rows of the table, in order."""
    return rows(Settings)


def single(environ: Mapping[str, str], name: str) -> Any:
    """The setting of field ``name``, for what is decided before all of them are read.

    A value that does not parse counts as unset; ``from_env`` says what is wrong with it, and can be answered for.
    """
    row = Settings.__dataclass_fields__[name]
    raw = environ.get(PREFIX + name.upper(), "").strip()
    try:
        return row.metadata["kind"].convert(raw) if raw else row.default
    except ValueError:
        return row.default


def unread(environ: Mapping[str, str], settings: Settings) -> list[str]:
    """The names that begin as ours do, are none, resemble none, and are not said to be another program's."""
    others = {name.strip() for name in (settings.ignore or "").split(",")}
    return sorted(name for name in _look_like_ours(environ) if environ[name].strip() and name not in others)


def _look_like_ours(environ: Mapping[str, str]) -> list[str]:
    ours = {PREFIX + f.name.upper() for f in fields()}
    return [name for name in environ if name[: len(PREFIX)].upper() == PREFIX and name not in ours]


def _may_hold_mistakes(environ: Mapping[str, str]) -> bool:
    """Whether a name looks like one of ours and is none, or no name of ours says where the database is."""
    return bool(_look_like_ours(environ)) or not (environ.get("DB_SECRET_ID") or environ.get("DB_AUTH"))
