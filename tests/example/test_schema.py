"""Whose rows the migrations let whom see and make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, exc, text

import db
from db.migrations import audit

from .conftest import Shop

if TYPE_CHECKING:
    from devkit.servers.postgres import Postgres

INSERT = "INSERT INTO orders (tenant_id, id, customer, currency, total_minor)"


def test_rows_without_a_tenant_can_be_neither_seen_nor_made(shop: Shop, postgres: Postgres) -> None:
    """The policies fail closed, for the owner too."""
    postgres.execute(f"{INSERT} VALUES ('acme', gen_random_uuid(), 'c', 'EUR', 1)", database=shop.database.name)
    with db.read() as conn:
        assert conn.execute(text("SELECT count(*) FROM orders")).scalar_one() == 0
    insert = text("INSERT INTO orders (id, customer, currency, total_minor) VALUES (gen_random_uuid(), 'c', 'EUR', 1)")
    with db.begin(tenant="acme") as tx:
        tx.execute(text("SELECT 1"))  # from here on the session knows the setting, and it is empty
    with pytest.raises(exc.ProgrammingError, match="row-level security"), db.begin() as tx:
        tx.execute(insert)


@pytest.mark.parametrize(("tenant", "seen"), [("acme", 1), ("globex", 0)])
@pytest.mark.usefixtures("shop")
def test_a_tenant_sees_its_own_rows(tenant: str, seen: int) -> None:
    """And can make none of another's."""
    insert = text(f"{INSERT} VALUES (:tenant, gen_random_uuid(), 'c', 'EUR', 1)")
    with db.begin(tenant="acme") as tx:
        tx.execute(insert, {"tenant": "acme"})
    with db.read(tenant=tenant) as conn:
        assert conn.execute(text("SELECT count(*) FROM orders")).scalar_one() == seen
    with pytest.raises(exc.ProgrammingError, match="row-level security"), db.begin(tenant="acme") as tx:
        tx.execute(insert, {"tenant": "globex"})


@pytest.mark.parametrize(
    "statement", ["ALTER TABLE orders DISABLE ROW LEVEL SECURITY", "DELETE FROM orders", "DROP TABLE order_lines"]
)
@pytest.mark.usefixtures("shop")
def test_the_application_owns_nothing_and_alters_nothing(statement: str) -> None:
    """Row-level security is the owner's to lift."""
    with pytest.raises(exc.ProgrammingError, match=r"must be owner|permission denied"), db.begin() as tx:
        tx.execute(text(statement))


def test_nothing_of_the_schema_is_open(shop: Shop) -> None:
    """By the audit, for the role that serves requests; the report's reads across tenants are meant to be."""
    engine = create_engine(shop.database.url("owner"))
    with engine.connect() as conn:
        assert audit(conn, roles=[shop.database.app]) == []
    engine.dispose()
