"""What an engine is to the rooms above: the class of the objects, and which one a name stands for."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from db.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import URL

Capability = Literal[
    "tenant",
    "statement limit",
    "lock limit",
    "transaction limit",
    "read-only",
    "isolation",
    "savepoints",
    "flights",
    "copy",
    "binary copy",
    "once",
    "deferred constraints",
    "advisory lock",
    "roles",
    "prologue function",
    "replica state",
    "cancel",
    "prime",
    "aio",
]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)


# An engine is one object, so nobody compares two: what a dataclass would have for that is made at each cold start.
@dataclass(frozen=True, kw_only=True, eq=False, repr=False, match_args=False)
class OnceSql:
    """The statements of ``db.once`` on its table, with parameters as in SQLAlchemy's ``text()``.

    All may name ``:tenant`` and ``:key``. ``insert`` takes ``:payload_hash`` and ``:expires_in_s`` too, and gives a row
    where the key was free; ``select``, ``payload_hash``, ``result`` and ``ends_at`` in epoch seconds, of a record that
    has not expired. ``set_result`` takes ``:result``. ``purge`` deletes at most ``:limit`` expired records.
    An ``insert`` that gives no rows has a row's count of 0 where the key was taken.
    ``riding`` is ``set_result`` for a driver that has flights: ``$1`` is the key, ``$2`` the result.
    ``tenant_default`` is the SQL of the column's default.
    """

    insert: str
    select: str
    delete_expired: str
    set_result: str
    purge: str
    tenant_default: str
    riding: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, match_args=False)
class EngineKind:
    """One database engine.

    ``can`` says of each capability by what it is kept, and ``lacks`` of the others why not, and what to do instead:
    together they hold all. ``unserved`` does so for settings, by their fields: they are refused where they are set to
    anything else than their default. ``differs`` has, by call, what is otherwise than on PostgreSQL.
    """

    name: str  # in a URL, and of SQLAlchemy's dialect
    title: str
    system: str  # OpenTelemetry's db.system.name
    dialect: str  # the module of ``wire`` whose DRIVER is the dialect of this package
    # The module of ``pool`` that says the driver's connect arguments, where there is a server.
    arguments: str = "connect_arguments"
    port: int = 5432
    # What the key "engine" of a secret holds, of one for this engine.
    in_secrets: tuple[str, ...] = ()
    # The package that ``db`` depends on by an extra alone, and that extra.
    needs: tuple[str, str] | None = None
    # Why no URL can name it, and what does.
    not_by_url: str | None = None
    can: Mapping[Capability, str]
    lacks: Mapping[Capability, str] = field(default_factory=dict)
    unserved: Mapping[str, str] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)
    # The highest value of a setting, by its field, and why.
    at_most: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    # How many rows a transaction may write.
    most_rows: int | None = None
    # Migrations run outside of a transaction, where one cannot hold two statements of DDL.
    commits_each_statement: bool = False
    # There are a host and a login: connections are opened by ``pool.connector``.
    is_server: bool = True
    # Whether a URL names a database that lives in one connection, which is never given up then.
    in_one_connection: Callable[[URL], bool] = lambda _url: False
    # The URL for who only looks: what it opens makes no file and changes none.
    to_look_at: Callable[[URL], URL] = lambda url: url
    # Other limits, or another tenant, within a transaction have to be said in SQL. Else its connection asks the
    # prologue ahead of each statement.
    is_told_in_sql: bool = False
    # A JSON column, or that of another server which the same URL may mean, is text, and equal to the same text alone.
    compares_json_as_text: bool = False
    # What a login may do is granted to it.
    has_grants: bool = True
    # Who would write waits for who does, whatever they write.
    has_one_writer: bool = False
    once: OnceSql
    # One try to take the lock of the migrations, with ``:key``: a row that holds true where it was free. None: the
    # dialect's ``migration_lock(url)`` takes it beside the connection.
    migration_lock: str | None = None
    # What whoever has left something on a session is told to do in its stead.
    instead_of_leftovers: str = (
        "say it for the transaction alone (SET LOCAL, ON COMMIT DROP, pg_advisory_xact_lock), or pay for a connect "
        "each time"
    )
    # For a session without a prologue, by the version, seconds for a statement (None: no limit) and for a lock.
    session_limits: Callable[[Sequence[Any], float | None, float], list[str]] = lambda *_: []
    # Raises, or gives rows, where a deferred constraint would fail at COMMIT.
    check_constraints: str | None = None
    # For Alembic's ``context.configure``.
    alembic: Mapping[str, Any] = field(default_factory=dict)

    def require(self, capability: Capability, call: str) -> None:
        """Raise ConfigurationError, which names the call and the engine, where this engine cannot do that."""
        if (why := self.lacks.get(capability)) is not None:
            raise ConfigurationError([f"{call} on {self.title}: {why}"])


# The first is what a secret or a token is for.
NAMES = ("postgresql", "sqlite", "mysql", "mariadb", "dsql")


@functools.cache
def kind_named(name: str) -> EngineKind | None:
    """The engine that SQLAlchemy, and so a URL, calls ``name``; None where there is no object for it."""
    if name not in NAMES:
        return None
    kind = importlib.import_module(f"{__package__}.{name}").KIND
    assert isinstance(kind, EngineKind)  # noqa: S101 - for the type checker
    return kind


def kind_of(dialect: Any) -> EngineKind | None:
    """The engine behind a dialect of SQLAlchemy's: the one that it goes by, unless it says that it is another's."""
    return kind_named(getattr(dialect, "engine_name", dialect.name))


def all_kinds() -> list[EngineKind]:
    """Every engine that there is an object for."""
    return [kind for name in NAMES if (kind := kind_named(name)) is not None]


def refusal_of(name: str) -> str:
    """What is said of an engine that there is no object for, behind the name of the setting."""
    *others, last = [kind.title for kind in all_kinds()]
    return f"names {name}: db speaks {', '.join(others)} and {last}"
