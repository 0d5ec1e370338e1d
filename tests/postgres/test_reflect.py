"""An existing schema, read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import MetaData, make_url, select, text

import db
from db.settings import Settings
from db.work.reflect import save_snapshot

from .conftest import Use

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database, MakeWire


@pytest.fixture
def shop(use: Use) -> None:
    """Two tables and a view in the default schema, one table in another."""
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL)"))
        tx.execute(text("CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers)"))
        tx.execute(text("CREATE VIEW names AS SELECT name FROM customers"))
        tx.execute(text("CREATE SCHEMA archive"))
        tx.execute(text("CREATE TABLE archive.orders (id int)"))


def test_tables_come_with_columns_and_keys(shop: None) -> None:
    """As SQLAlchemy reflects them, ready for statements."""
    tables = db.reflect().tables
    assert set(tables) == {"customers", "orders"}
    (key,) = tables["orders"].foreign_keys
    assert key.column is tables["customers"].c.id
    with db.read() as conn:
        assert conn.execute(select(tables["customers"])).all() == []


def test_what_is_read_can_be_chosen(shop: None) -> None:
    """Another schema, some tables, views."""
    assert set(db.reflect(schema="archive").tables) == {"archive.orders"}
    assert set(db.reflect(only=["customers"]).tables) == {"customers"}
    assert set(db.reflect(views=True).tables) == {"customers", "orders", "names"}


def test_the_database_is_asked_once(shop: None, database: Database, wire: MakeWire) -> None:
    """The second call costs no trip; a new configuration asks again."""
    proxy = wire()
    settings = Settings(url=make_url(database.through(proxy).url("owner")), sslmode="disable")
    db.configure(settings)
    first = db.reflect()
    after = proxy.counts()
    assert db.reflect() is first
    assert proxy.counts() == after
    db.configure(settings)
    assert db.reflect() is not first


def test_no_tenant_is_needed(shop: None, use: Use) -> None:
    """The catalogue belongs to none."""
    use(role="owner", tenant_required=True)
    assert "orders" in db.reflect().tables


def test_a_snapshot_spares_the_database(shop: None, use: Use, tmp_path: Path) -> None:
    """A cold start pays for a file, and opens no connection for it."""
    save_snapshot(db.reflect(), tmp_path / "schema")
    use()
    tables = db.reflect(snapshot=tmp_path / "schema").tables
    assert set(tables) == {"customers", "orders"}
    assert db.status()["totals"]["connects"] == 0
    assert db.reflect(snapshot=tmp_path / "schema").tables is tables


@pytest.mark.parametrize(("content", "says"), [(None, "no snapshot"), (b"something else", "write it again")])
def test_a_snapshot_that_cannot_be_used_is_said(content: bytes | None, says: str, use: Use, tmp_path: Path) -> None:
    """It is the deployment's mistake, and the cold start would not show it."""
    use()
    if content is not None:
        (tmp_path / "schema").write_bytes(content)
    with pytest.raises(db.ConfigurationError, match=says):
        db.reflect(snapshot=tmp_path / "schema")


def test_a_snapshot_of_another_release_is_refused(use: Use, tmp_path: Path) -> None:
    """Its pickle may still load, and mean something else."""
    use()
    path = tmp_path / "schema"
    save_snapshot(MetaData(), path)
    path.write_bytes(path.read_bytes().replace(b"SQLAlchemy 2", b"SQLAlchemy 1", 1))
    with pytest.raises(db.ConfigurationError, match="write it again"):
        db.reflect(snapshot=path)
