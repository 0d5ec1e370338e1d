"""Fixtures for tests on the embedded server: a runtime on a fresh database, and what it logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest
from sqlalchemy import make_url, text

import db
from db.environment import process
from db.settings import Settings
from db.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database


class Use(Protocol):
    """Configures the layer for the test's database, as the role ``app`` unless told otherwise."""

    def __call__(self, *, role: Literal["owner", "app"] = "app", **settings: Any) -> None: ...


@pytest.fixture
def use(database: Database) -> Iterator[Use]:
    def configure(*, role: Literal["owner", "app"] = "app", **settings: Any) -> None:
        db.configure(Settings(**({"url": make_url(database.url(role))} | settings)))

    yield configure
    db.dispose()
    process.DEFAULT._runtime = None


@pytest.fixture
def ledger(use: Use, database: Database) -> None:
    """A table ``ledger(n, tenant)`` that the role ``app`` may read and write, and a runtime as ``app``."""
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE ledger (n int PRIMARY KEY, tenant text)"))
        tx.execute(text(f"GRANT ALL ON ledger TO {database.app}"))
    use()


class Lines(logging.Handler):
    """The log lines of the layer, as the extra keys of each."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def of(self, event: str) -> list[dict[str, Any]]:
        """The extra keys of the lines for one kind of event."""
        return [vars(r) for r in self.records if getattr(r, "connection_event", None) == event]

    def events(self) -> list[str]:
        """The kinds of events, in order."""
        return [r.connection_event for r in self.records if hasattr(r, "connection_event")]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What the layer logs from here on, checkouts included."""
    handler, level = Lines(), log.logger.log_level
    log.logger.addHandler(handler)
    log.logger.setLevel(logging.DEBUG)
    yield handler
    log.logger.setLevel(level)
    log.logger._logger.removeHandler(handler)


def backend_pid() -> int:
    """The server process behind the connection that the layer uses now."""
    with db.read() as conn:
        return int(conn.execute(text("SELECT pg_backend_pid()")).scalar_one())
