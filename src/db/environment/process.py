"""The process's only mutable object: the runtime of the default database, built on first use, replaced whole.

Nothing is read or opened on import, so a test may import a handler before it has set the environment, and a failure to
configure is raised where the handler can answer for it. What ends or copies the process reaches every database that a
``Holder`` has been made for, as long as somebody has that.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from db.errors import ConfigurationError, claim
from db.pool.engine_options import EngineOptions
from db.settings import PREFIX, Settings, unread
from db.telemetry.log import warn_of_lost_metrics, warn_of_rebuilding, warn_of_unread
from db.telemetry.metrics import TO_OPENTELEMETRY, Tally
from db.timing.invocation import NONE, current_invocation

from .runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

    from db.telemetry.metrics import PoolNumbers

    from .runtime import Status

FLUSH_S = 1.0  # the longest that an exporter may take of an invocation: a collector beside it takes milliseconds


class Holder:
    """Holds the runtime of one database: built when it is first asked for, replaced whole, closed, forgotten."""

    called = "db"  # before the name of a call, in words
    database: str | None = None  # its name, where it is not the default one
    prefix = PREFIX  # of its variables

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._options = EngineOptions()  # what the application said of its engines
        self._past: list[dict[str, Tally]] = []  # what earlier runtimes counted
        self._lock = threading.Lock()
        key = id(self)
        _all[key] = weakref.ref(self, lambda _: _all.pop(key, None))

    def current(self) -> Runtime:
        """The runtime, built from the environment on first use. Raises ConfigurationError."""
        if self._runtime is None:
            with self._lock:
                if self._runtime is None:
                    with self.named():
                        self._runtime = _built(self._read(), self._options)
                    _note_built(self._runtime.settings)
        return self._runtime

    def peek(self) -> Runtime | None:
        """The runtime if something has used it already."""
        return self._runtime

    @contextmanager
    def named(self) -> Iterator[None]:
        """Have the errors of the block name this database."""
        try:
            yield
        except Exception as error:
            claim(error, database=self.database, prefix=self.prefix)
            raise

    def _read(self) -> Settings:
        """The settings as the environment has them now."""
        settings, ignored = self.found()
        warn_of_unread(ignored, prefix=self.prefix)
        return settings

    def found(self) -> tuple[Settings, list[str]]:
        """The same, and the names that look like settings and have no effect. Raises ConfigurationError."""
        theirs = tuple(holder.prefix for holder in holders() if holder.prefix != PREFIX)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        settings = Settings.from_env(environ)
        return settings, unread(environ, settings)

    def _own(self, settings: Settings) -> Settings:
        """``settings``, as those of this database."""
        return settings

    def configure(
        self,
        settings: Settings | None,
        *,
        engine_options: Mapping[str, Any] | None,
        on_engine: Callable[[Engine], object] | None,
    ) -> None:
        """What ``db.configure()`` promises."""
        call = f"{self.called}.configure"
        with self.named():
            if self._runtime is not None and _is_in_unit_of(self._runtime):
                raise ConfigurationError([_IN_UNIT.format(call)])
        given: object = settings
        if not isinstance(given, Settings | None):
            raise TypeError(f"{call} takes db.Settings(...), not a {type(given).__name__}")
        given_options: object = engine_options
        if not isinstance(given_options, Mapping | None):
            kind = type(given_options).__name__
            raise TypeError(f"engine_options of {call} is a dict of create_engine's arguments, not {kind}")
        if on_engine is not None and not callable(on_engine):
            raise TypeError(f"on_engine of {call} is a function of an engine, not {type(on_engine).__name__}")
        with self.named():
            options = EngineOptions(
                self._options.options if engine_options is None else dict(engine_options),
                self._options.on_engine if on_engine is None else on_engine,
            )
            own = self._own(settings) if settings is not None else self._read()
            replacement = _built(own, options)
        with self._lock:
            old, self._runtime, self._options = self._runtime, replacement, options
            if old is not None:
                self._past = _with(self._past, old.tallies)
        if old is not None:
            old.dispose()
        _note_built(own)

    def pools(self) -> list[PoolNumbers]:
        """The pools at work, with what those of the same name counted under earlier configurations."""
        with self._lock:
            now, past = self._runtime, self._past
        if now is None:
            return []
        return [
            dataclasses.replace(
                pool, counted=Tally.sum((pool.counted, *(one[pool.pool] for one in past if pool.pool in one)))
            )
            for pool in now.pools()
        ]

    def engine(self, role: Literal["writer", "reader"]) -> Engine:
        """What ``db.engine()`` promises."""
        return self.current().engine(checked_role(role))

    def dispose(self) -> None:
        """What ``db.dispose()`` promises."""
        if self._runtime is not None:
            self._runtime.dispose()

    def after_fork(self) -> None:
        """In a forked child, to which no thread came along."""
        self._lock = threading.Lock()
        self._past = []
        if self._runtime is not None:
            self._runtime.after_fork()


def _built(settings: Settings, options: EngineOptions) -> Runtime:
    if settings.metrics in TO_OPENTELEMETRY:
        from db.telemetry.otel_metrics import observe

        observe(_pools_by_opentelemetry)
    return Runtime(settings, options=options)


def _with(past: list[dict[str, Tally]], latest: dict[str, Tally]) -> list[dict[str, Tally]]:
    """``past`` and ``latest``, as what there is now and a sum of all before it.

    The last one stays what it is, as its connections are yet to be closed, and counted.
    """
    if len(past) <= 1:
        return [*past, latest]
    base = {pool: Tally.sum(one[pool] for one in past if pool in one) for pool in set().union(*past)}
    return [base, latest]


# A plain dict, whose values are listed in one step: a signal may strike amid another thread's doing.
_all: dict[int, weakref.ref[Holder]] = {}
DEFAULT = Holder()
# By the hash of which database it is, how many runtimes invocations have built for it. One is that of a first use; some
# handlers configure on their own, or again after a failure.
_built_within: Counter[int] = Counter()
_BUILT_AT_MOST = 3
_IN_UNIT = "{}() closes every connection, and so that of the unit of work around it: call it before or after that"
# Whether the caller is in a unit of work of a runtime. Those are made of what is here, and say so themselves.
_is_in_unit_of: Callable[[Runtime], bool] = lambda _: False  # noqa: E731 - until there is one


def look_for_units_by(is_in_unit_of: Callable[[Runtime], bool]) -> None:
    """Ask ``is_in_unit_of`` before what a unit of work may be using is taken away."""
    global _is_in_unit_of  # noqa: PLW0603 - said once, when units of work are imported
    _is_in_unit_of = is_in_unit_of


def _note_built(settings: Settings) -> None:
    """Look for who builds what is meant to be kept anew for each event: that connects each time."""
    if current_invocation() is NONE:
        return  # where the module is loaded, in a test, or as a server begins
    named = settings.database, settings.url, settings.secret_id, settings.host, settings.name, settings.user
    _built_within[hash(named)] += 1
    if _built_within[hash(named)] > _BUILT_AT_MOST:
        warn_of_rebuilding(settings.database)


def holders() -> list[Holder]:
    """Those of all databases, the default one's first. Takes no lock, so a signal handler may ask."""
    return [holder for known in list(_all.values()) if (holder := known()) is not None]


def owner_of(conn: Connection) -> Holder | None:
    """The database that ``conn`` is of; None where somebody has made an engine of his own."""
    for holder in holders():
        now = holder.peek()
        if now is not None and now.made(conn.dialect):
            return holder
    return None


def runtimes() -> list[Runtime]:
    """Those at work now, in the same order."""
    return [now for holder in holders() if (now := holder.peek()) is not None]


def pools() -> list[PoolNumbers]:
    """Those of all databases that are used, once for each name; reads what there is, and opens nothing."""
    return _by_name(holders())


def _pools_by_opentelemetry() -> list[PoolNumbers]:
    return _by_name(_reporting())


def _reporting() -> list[Holder]:
    """The databases whose numbers go to OpenTelemetry."""
    return [one for one in holders() if (now := one.peek()) and now.settings.metrics in TO_OPENTELEMETRY]


def _by_name(of: list[Holder]) -> list[PoolNumbers]:
    found: dict[str, PoolNumbers] = {}
    for holder in of:
        for numbers in holder.pools():
            before = found.get(numbers.name)
            found[numbers.name] = numbers if before is None else before.with_(numbers)
    return list(found.values())


def flush_metrics() -> None:
    """In Lambda, have OpenTelemetry send what it has: nothing does while the environment is frozen."""
    sent_for = [now for one in _reporting() if (now := one.peek()) is not None and now.settings.function_name]
    if sent_for:
        from db.telemetry.otel_metrics import flush

        deadline = current_invocation().deadline
        left_s = FLUSH_S if deadline is None else min(deadline.left_s(time.time()) / 2, FLUSH_S)
        if left_s > 0 and (error := flush(left_s)) is not None:
            warn_of_lost_metrics(error)


def _after_fork() -> None:
    for holder in holders():
        holder.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_after_fork)


def current() -> Runtime:
    """The default database's runtime, built from the environment on first use. Raises ConfigurationError."""
    return DEFAULT.current()


def configure(
    settings: Settings | None = None,
    *,
    engine_options: Mapping[str, Any] | None = None,
    on_engine: Callable[[Engine], object] | None = None,
) -> None:
    """Replace the runtime: with ``settings``, or with what the environment says now.

    ``engine_options`` are further arguments to SQLAlchemy's ``create_engine``: ``json_serializer``,
    ``json_deserializer``, ``execution_options``; its ``isolation_level`` is that of every unit of work, too, which
    names none itself. ``on_engine`` is called with each engine when it is made, before anything uses it, so that
    listeners can be put on it; what it raises reaches whoever uses the engine, each time, as it is not kept. Both hold
    for the runtimes after this one as well, until they are said anew.

    Disposes the old one. Raises ConfigurationError, and leaves the old one in place, where the environment is wrong, an
    option is the settings' to say, or the caller is inside of a unit of work.
    """
    DEFAULT.configure(settings, engine_options=engine_options, on_engine=on_engine)


def engine(role: Literal["writer", "reader"] = "writer") -> Engine:
    """The plain SQLAlchemy Engine, for a library that wants one: ``"writer"`` (default) or ``"reader"``.

    It has the credentials, pool, schema and log lines of the layer; tenant and time limits belong to ``begin`` and
    ``read``. Behind a proxy with DB_SCHEMA it has no AUTOCOMMIT.
    Raises ValueError for another role, and ConfigurationError.
    """
    return DEFAULT.engine(role)


def checked_role(role: Literal["writer", "reader"]) -> Literal["writer", "reader"]:
    """``role``, if it is one of the two that have an endpoint. Raises ValueError."""
    if role not in {"writer", "reader"}:
        raise ValueError(f"the engines are 'writer' and 'reader': there is no {role!r}")
    return role


def dispose() -> None:
    """Close every connection to the default database; the next use connects again. Does nothing where none was used.

    A unit of work that is under way loses its connection, too: what it sends next fails, and nothing of it commits.
    """
    DEFAULT.dispose()


def status() -> Status:
    """Pool and connection numbers of this process, as a JSON-ready dict.

    ``engines`` has kind, size, idle and checked_out per role; ``totals`` counts, since the runtime began, what the
    metrics report per invocation: connects, connect_ms, checkouts, reuses, invalidations, closes, statements and
    database_ms.
    """
    return DEFAULT.current().status()
