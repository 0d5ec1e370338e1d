"""``db.prime``: what the first unit of work finds ready."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, event, insert, select, text, update

import db
from db import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.sql.base import Executable

    from devkit.plugin import Database

NOTES = Table(
    "primed",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("body", Text),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
ROW = {"id": 1, "body": "a"}


@pytest.fixture
def hits(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Whether each statement that is executed had been compiled before, by name."""
    monkeypatch.delitem(sys.modules, "db.aio", raising=False)  # as in a process that has not imported it
    seen: list[str] = []
    db.configure(Settings(url=database.url()))
    event.listen(db.engine(), "before_cursor_execute", lambda *args: seen.append(args[4].cache_hit.name))
    yield seen
    db.dispose()


@pytest.mark.parametrize(
    ("primed", "executed"),
    [
        (select(NOTES).where(NOTES.c.id == 1), lambda tx: tx.execute(select(NOTES).where(NOTES.c.id == 2))),
        ((insert(NOTES), {"id": 0, "body": ""}), lambda tx: tx.execute(insert(NOTES), ROW)),
        ((insert(NOTES), [ROW, ROW]), lambda tx: tx.execute(insert(NOTES), [ROW, {"id": 2, "body": "b"}])),
        (insert(NOTES).values(ROW), lambda tx: tx.execute(insert(NOTES).values(id=3, body="c"))),
        ((update(NOTES), {"body": ""}), lambda tx: tx.execute(update(NOTES), {"body": "d"})),
        (text("SELECT 1"), lambda tx: tx.execute(text("SELECT 1"))),
    ],
    ids=["select", "insert", "insert many", "values", "update", "text"],
)
def test_executing_finds_what_was_primed(
    hits: list[str], primed: Executable, executed: Callable[[Any], object]
) -> None:
    """Other values, the same statement."""
    assert db.prime(primed)["compiled"] == 1
    assert db.prime(primed)["compiled"] == 0
    with db.begin() as tx:
        NOTES.create(tx, checkfirst=False)
        hits.clear()
        executed(tx)
        assert hits == ["CACHE_HIT"]


def test_nothing_is_connected_to(hits: list[str]) -> None:
    """It says what it did, and that was no connect."""
    primed = db.prime(select(NOTES), text("SELECT 2"))
    assert (primed["engines"], primed["compiled"]) == (1, 2)
    assert db.status()["totals"]["connects"] == 0
    assert hits == []


def test_the_engines_of_aio_are_primed_where_it_has_been_imported(
    hits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They compile for themselves."""
    from db import aio

    monkeypatch.setitem(sys.modules, "db.aio", aio)
    primed = db.prime(text("SELECT 3"))
    assert (primed["engines"], primed["compiled"], hits) == (2, 2, [])


@pytest.mark.parametrize("wrong", ["SELECT 1", NOTES.c.id, (text("SELECT 1"), 1), (text("SELECT 1"), [1])])
def test_what_is_no_statement_is_refused(wrong: Any) -> None:
    """By the call's name, before anything is made."""
    with pytest.raises(TypeError, match=r"db\.prime takes"):
        db.prime(wrong)
