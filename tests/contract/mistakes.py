"""What a table of mistakes is made of: the place where one is made, and what is looked at in what is said.

A row is a name, a function that makes the mistake, the type of its error or warning, and the words that it has to hold:
what is wrong, and what to write. Another mistake is another row. ``at`` prepares what a row needs: variables, a
secret, a server. What is refused before anything connects needs none.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text

import db
from db import aio
from db.environment import event_loop, process
from db.migrations.operations import create_once_table
from db.pool.engine_options import EngineOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database, PutSecret

# As no type checker would let them be called.
call: Any = db
call_aio: Any = aio

ONE = text("SELECT 1")


class At:
    """The place where a mistake is made."""

    def __init__(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        self._request = request
        self._monkeypatch = monkeypatch

    def environment(self, **variables: str) -> None:
        """Read the settings from these variables."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)
        db.configure()

    def secret(self, value: object, **settings: Any) -> None:
        """Read from a database whose secret is ``value``."""
        put: PutSecret = self._request.getfixturevalue("secret")
        name = put("mistakes", value if isinstance(value, str) else json.dumps(value))
        db.configure(call.Settings(**({"secret_id": name, "connect_wait_s": 0.0} | settings)))
        read()

    def server(self, **settings: Any) -> Database:
        """A database of the test's own, without a table."""
        database: Database = self._request.getfixturevalue("database")
        db.configure(call.Settings(**({"url": database.url()} | settings)))
        return database

    def table(self, **settings: Any) -> Database:
        """The same as its owner, with a table ``notes (id, note)`` and that of ``db.once``."""
        database = self.server()
        db.configure(call.Settings(**({"url": database.url("owner")} | settings)))
        with db.begin() as tx:
            tx.execute(text("CREATE TABLE notes (id int PRIMARY KEY, note text)"))
            create_once_table(Operations(MigrationContext.configure(tx)), used_by=[database.app])
        return database


Make = Callable[[At], object]
Row = tuple[str, Make, type[Exception], tuple[str, ...]]


def read() -> None:
    """What a handler does first."""
    with db.read() as conn:
        conn.execute(ONE)


def on_sqlite(make: Callable[[], object]) -> Make:
    """Make the mistake where a database is always there."""

    def made(_at: At) -> None:
        db.configure(db.Settings(url="sqlite://"))
        make()

    return made


@pytest.fixture
def at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[At]:
    for name in os.environ.copy():
        if name.upper().startswith("DB_") or name == "POWERTOOLS_IDEMPOTENCY_DISABLED":
            monkeypatch.delenv(name)
    yield At(request, monkeypatch)
    with contextlib.suppress(db.ConfigurationError):
        db.dispose()
    event_loop.close()
    process.DEFAULT._runtime, process.DEFAULT._options = None, EngineOptions()


def require_said(at: At, make: Make, error: type[Exception], words: tuple[str, ...]) -> None:
    """Make the mistake, and fail where it is not answered by ``error`` with all of ``words``; no password is in it."""
    if issubclass(error, Warning):
        with pytest.warns(error) as warned:
            _made(make, at)
        said = "\n".join(str(one.message) for one in warned)
    else:
        with warnings.catch_warnings():
            # Powertools', of a key or a context that a row leaves out; and what a refused call has never entered.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            with pytest.raises(error) as caught:
                make(at)
            said = told(caught.value)
            del caught
            gc.collect()
    assert [word for word in words if word not in said] == [], said
    assert "never shown" not in said


def _made(make: Make, at: At) -> None:
    """Make it, and let go of what it has left behind."""
    make(at)
    gc.collect()


def told(error: BaseException) -> str:
    """What a traceback shows of ``error``: its message, its notes, and those of the errors in a group."""
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return "\n".join([str(error), *getattr(error, "__notes__", ()), *map(told, parts)])
