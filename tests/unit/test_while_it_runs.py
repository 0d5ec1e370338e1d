"""What shows of a mistake only while it runs: one warning a process, with the page, and none for what is right."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

import db
from db.environment import process
from db.pool import pools
from db.settings import Settings
from db.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = Path(__file__).parents[2] / "docs" / "run" / "check.md"
ONE = text("SELECT 1")


@pytest.fixture(autouse=True)
def unwarned(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has built nothing yet, and has warned of nothing."""
    monkeypatch.setattr(process, "_built_within", Counter())
    monkeypatch.setattr(process.DEFAULT, "_runtime", None)
    monkeypatch.setattr(log, "_said_to_be_rebuilt", set())
    monkeypatch.setattr(log, "_said_to_be_waited_for", set())
    monkeypatch.setenv("DB_URL", "sqlite://")
    yield
    db.dispose()


def warned(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    found = [vars(record) for record in caplog.records if vars(record).get("connection_event") == event]
    for line in found:
        address, _, heading = line["see"].rpartition("#")
        assert address.endswith("/run/check/")
        assert f"## {heading.replace('-', ' ')}" in PAGE.read_text().lower()
    return found


def handled(work: Callable[[], object], *, times: int) -> None:
    """Have as many invocations do ``work``."""
    handler = db.invocation(lambda _event, _context: work())
    for _ in range(times):
        handler({}, None)


def configures() -> None:
    db.configure(Settings(url="sqlite://"))
    db.fetch(ONE)


def makes_a_database() -> None:
    db.Database(Settings(url="sqlite://"), name="audit").fetch(ONE)


def makes_one_of_the_environment() -> None:
    db.configure()


@pytest.mark.parametrize(
    ("work", "database"), [(configures, None), (makes_a_database, "audit"), (makes_one_of_the_environment, None)]
)
def test_an_engine_for_each_invocation_is_warned_of(
    work: Callable[[], object], database: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """From the fourth on, and once: a first use is none, and a handler may configure on its own."""
    handled(work, times=3)
    assert warned(caplog, "rebuilt") == []
    handled(work, times=3)
    (line,) = warned(caplog, "rebuilt")
    assert line.get("database") == database


def test_what_is_built_once_or_outside_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Nor a database for each of many tenants, which are as many databases."""
    kept = db.Database(Settings(url="sqlite://"), name="audit")

    def work() -> None:
        db.fetch(ONE)
        kept.fetch(ONE)

    handled(work, times=6)
    for _ in range(6):
        configures()
    ours = iter(range(6))
    handled(lambda: db.Database(Settings(url=f"sqlite:///{next(ours)}?mode=memory&uri=true")).status(), times=6)
    assert warned(caplog, "rebuilt") == []


@pytest.mark.parametrize(("long_s", "lines"), [(0.0, 1), (60.0, 0)])
def test_a_pool_that_is_waited_for_is_warned_of(
    long_s: float, lines: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with what widens it, where a connection could have been opened meanwhile."""
    monkeypatch.setattr(pools, "_LONG_WAIT_S", long_s)
    db.configure(Settings(url="sqlite://", pool_timeout_s=60.0))
    for _ in range(2):
        taken, wanted = threading.Event(), threading.Event()

        def hold(taken: threading.Event = taken, wanted: threading.Event = wanted) -> None:
            with db.engine().connect():
                taken.set()
                wanted.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        taken.wait()
        threading.Timer(0.05, wanted.set).start()
        with db.engine().connect() as conn:
            assert conn.scalar(ONE) == 1
        holder.join()
    found = warned(caplog, "pool wait")
    assert len(found) == lines
    assert all("DB_POOL" in line["message"] for line in found)
