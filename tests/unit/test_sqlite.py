"""The same calls on SQLite, as unit tests without a server use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import exc, make_url, text

import db
from db.environment import process
from db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["memory", "file", "file-null"])
def _sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    url = "sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'test.db'}"
    db.configure(Settings(url=make_url(url), pool="null" if request.param == "file-null" else "queue"))
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE ledger (n int PRIMARY KEY)"))
    yield
    db.dispose()
    process.DEFAULT._runtime = None


@pytest.mark.usefixtures("_sqlite")
def test_units_of_work_commit_and_roll_back() -> None:
    """One connection in memory, a file, with or without a pool: the same."""
    with db.begin() as tx:
        tx.execute(text("INSERT INTO ledger VALUES (1)"))
    with pytest.raises(exc.IntegrityError):
        db.run(lambda conn: conn.execute(text("INSERT INTO ledger VALUES (1)")))
    with db.session() as orm:
        orm.execute(text("INSERT INTO ledger VALUES (2)"))
    with db.read(snapshot=True) as conn:
        assert list(conn.execute(text("SELECT n FROM ledger ORDER BY n")).scalars()) == [1, 2]


def test_a_unit_inside_another_is_refused_where_both_would_share_a_connection() -> None:
    """The inner one's rollback would undo the outer one's work, and nobody would know."""
    db.configure(Settings(url=make_url("sqlite://")))
    with (
        db.begin(),
        pytest.raises(db.ConfigurationError, match=r"inside of another .* take a database in a file"),
        db.read(),
    ):
        pass
    db.dispose()
    process.DEFAULT._runtime = None


def test_an_in_memory_database_ends_with_dispose() -> None:
    """The connection is the data."""
    db.configure(Settings(url=make_url("sqlite://")))
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE ledger (n int)"))
    db.dispose()
    with pytest.raises(exc.OperationalError, match="no such table"), db.read() as conn:
        conn.execute(text("SELECT * FROM ledger"))
    db.dispose()
    process.DEFAULT._runtime = None


def test_importing_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may set it afterwards; the error comes with the first use, and is kept by nothing."""
    monkeypatch.setattr(process.DEFAULT, "_runtime", None)
    for name in ("DB_URL", "DB_SECRET_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(db.ConfigurationError), db.read():
        pass
    monkeypatch.setenv("DB_URL", "sqlite://")
    with db.read() as conn:
        assert conn.execute(text("SELECT 1")).scalar_one() == 1
    db.dispose()


def test_a_wrong_configuration_leaves_the_old_one_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """``db.configure()`` replaces all or nothing."""
    monkeypatch.setattr(process.DEFAULT, "_runtime", None)
    db.configure(Settings(url=make_url("sqlite://")))
    engine = db.engine()
    monkeypatch.setenv("DB_POOL", "big")
    with pytest.raises(db.ConfigurationError):
        db.configure()
    assert db.engine() is engine
    db.dispose()
