"""The process's only mutable object: settings, credentials source and engines, built on first use, replaced whole.

Nothing is read or opened on import, so a test may import a handler before it has set the environment, and a failure to
configure is raised where the handler can answer for it.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.pool import QueuePool

from .connector import endpoint
from .credentials import source_for
from .engine import build_engine
from .invocation import current_invocation
from .lifecycle import Lifecycle, warn_of_echo
from .metrics import Tally
from .settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from .connector import Role
    from .credentials import Source


class Runtime:
    """One configuration at work: at most one engine for each role."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.clock = clock
        self.tally = Tally()
        self._sources: dict[str | None, Source | None] = {}
        self._engines: dict[Role, tuple[Engine, Lifecycle]] = {}
        self._lock = threading.Lock()
        if settings.function_name and (settings.echo, settings.echo_pool) != ("off", "off"):
            warn_of_echo(echo=settings.echo, echo_pool=settings.echo_pool)

    def engine(self, role: Role = "writer") -> Engine:
        """The engine for ``role``. Without a reader endpoint, the reader is the writer.

        ``unpooled`` is the writer with connections that close when they are done: for what changes a whole session.
        """
        if role == "reader" and not self.settings.reader_host:
            role = "writer"
        with self._lock:
            if role not in self._engines:
                self._engines[role] = self._build(role)
            return self._engines[role][0]

    def _build(self, role: Role) -> tuple[Engine, Lifecycle]:
        settings = self.settings
        if role == "unpooled":
            settings = dataclasses.replace(settings, pool="null", pool_size=1, max_overflow=0)
        lifecycle = Lifecycle(
            role=role, pool=settings.pool, tally=self.tally, slow_query_s=settings.slow_query_s, clock=self.clock
        )
        return build_engine(settings, self._source(role), lifecycle, role=role, clock=self.clock), lifecycle

    def _source(self, role: Role) -> Source | None:
        # A secret serves both endpoints; a token is signed for one.
        host = endpoint(self.settings, role)
        key = host if self.settings.source == "iam" else None
        if key not in self._sources:
            self._sources[key] = source_for(self.settings, host, clock=self.clock)
        return self._sources[key]

    def checked_out(self) -> int:
        """Connections in a handler's hands now."""
        return sum(lifecycle.in_use for _, lifecycle in self._engines.values())

    def dispose(self) -> None:
        """Close every connection, those in use among them. The engines stay usable and connect again when asked."""
        for engine, lifecycle in self._engines.values():
            engine.dispose()
            lifecycle.close_open()

    def discard_idle(self) -> None:
        """Close what the pools keep, where nobody else is at work on one of theirs."""
        for engine, lifecycle in self._engines.values():
            if not lifecycle.in_use:
                engine.dispose()

    def abandon(self) -> None:
        """Forget every connection without closing it: in a forked child they are the parent's."""
        for engine, lifecycle in self._engines.values():
            lifecycle.forget()
            engine.dispose(close=False)

    def status(self) -> dict[str, Any]:
        """What ``db.status()`` promises."""
        now = current_invocation()
        return {
            "source": self.settings.source,
            "pool": self.settings.pool,
            "cold": now.cold,
            "request_id": now.request_id,
            "engines": {role: _pool_numbers(*built) for role, built in self._engines.items()},
            "totals": self.tally.as_dict(),
        }


def _pool_numbers(engine: Engine, lifecycle: Lifecycle) -> dict[str, Any]:
    pool: Any = engine.pool
    numbers = {"size": pool.size(), "idle": pool.checkedin()} if isinstance(pool, QueuePool) else {"size": 0, "idle": 0}
    return {"kind": type(pool).__name__.removeprefix("IdleAware"), **numbers, "checked_out": lifecycle.in_use}


_runtime: Runtime | None = None
_lock = threading.Lock()


def _abandon_connections() -> None:
    if _runtime is not None:
        _runtime.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_abandon_connections)


def current() -> Runtime:
    """The runtime, built from the environment on first use. Raises ConfigurationError."""
    global _runtime  # noqa: PLW0603 - the one mutable object of the process
    if _runtime is None:
        with _lock:
            if _runtime is None:
                _runtime = Runtime(Settings.from_env(os.environ))
    return _runtime


def peek() -> Runtime | None:
    """The runtime if something has used it already."""
    return _runtime


def configure(settings: Settings | None = None) -> None:
    """Replace the runtime: with ``settings``, or with what the environment says now.

    Disposes the old one. Raises ConfigurationError, and leaves the old one in place, where the environment is wrong.
    """
    global _runtime
    replacement = Runtime(settings if settings is not None else Settings.from_env(os.environ))
    with _lock:
        old, _runtime = _runtime, replacement
    if old is not None:
        old.dispose()


def engine(role: Literal["writer", "reader"] = "writer") -> Engine:
    """The plain SQLAlchemy Engine, for a library that wants one: ``"writer"`` (default) or ``"reader"``.

    It has the credentials, pool and log lines of the layer; tenant and time limits belong to ``begin`` and ``read``.
    """
    return current().engine(role)


def dispose() -> None:
    """Close every connection of this process; the next use connects again. Does nothing where nothing was used."""
    if _runtime is not None:
        _runtime.dispose()


def status() -> dict[str, Any]:
    """Pool and connection numbers of this process, as a JSON-ready dict.

    ``engines`` has kind, size, idle and checked_out per role; ``totals`` counts, since the runtime began, what the
    metrics report per invocation: connects, connect_ms, checkouts, reuses, invalidations, closes, statements and
    database_ms.
    """
    return current().status()
