"""The orders' statements have their indexes, which begin with the tenant; and one that is gone is missed by name."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from devkit.query_plans.plans import PlansError
from handlers.orders import report

from .conftest import ORDER, Shop, record

if TYPE_CHECKING:
    from devkit.query_plans.plans import Plans
    from devkit.servers.postgres import Postgres

STATEMENTS = {
    ("INSERT db_once", "app"),
    ("INSERT orders", "app"),
    ("INSERT order_lines", "app"),
    ("SELECT orders", "app"),
    ("SELECT order_lines", "app"),
    ("UPDATE orders", "app"),
    ("SELECT orders", "owner"),
    ("DELETE db_once", "owner"),
}
NO_KEY = "ALTER TABLE orders DROP CONSTRAINT pk_orders CASCADE"
NO_TENANT = f"{NO_KEY}; ALTER TABLE orders ADD CONSTRAINT pk_orders PRIMARY KEY (id)"
NO_FOREIGN_KEYS_INDEX = (
    "ALTER TABLE order_lines DROP CONSTRAINT pk_order_lines, ADD PRIMARY KEY (tenant_id, position, order_id)"
)


def use(shop: Shop) -> None:
    """Send what the API and the queue's function send."""
    place = shop.api("POST", "/orders", ORDER, key="k-1").headers["Location"]
    assert shop.api("GET", place).status == 200
    assert shop.api("GET", "/orders", query={"limit": "1"}).status == 200
    assert shop.api("PATCH", place, {"status": "paid", "version": 1}).status == 200
    assert shop.intake(record("m-1", ORDER | {"id": str(uuid.uuid4())})) == []


def test_every_statement_has_its_index(shop: Shop, plans: Plans) -> None:
    """But for the report, once a day and of all tenants, which no index of a tenant's could serve."""
    use(shop)
    plans.check()
    shop.enter_as("owner")
    report.handler({"time": "2026-11-22T02:00:00Z"}, shop.context(remaining_s=5))
    with pytest.raises(PlansError) as caught:
        plans.check()
    (found,) = caught.value.findings
    assert (found.kind, str(found.table), found.statement.summary) == ("sequential scan", "orders", "SELECT orders")
    plans.allow(found.statement.id, reason="it runs once a day, on the reader, and sums up what all tenants sold")
    report.handler({"time": "2026-11-22T02:00:00Z"}, shop.context(remaining_s=5))
    plans.check()
    assert plans.allowed == [found]
    roles = {shop.database.app: "app", shop.database.owner: "owner"}
    assert {(one.sent.fingerprint.summary, roles[one.sent.role]) for one in plans.explained} == STATEMENTS
    assert {one.reason for one in plans.unexplained} <= {"SAVEPOINT has no plan", "RELEASE has no plan"}


@pytest.mark.parametrize(
    ("mutation", "kind", "table", "statements"),
    [
        (NO_KEY, "sequential scan", "orders", {"SELECT orders", "UPDATE orders"}),
        (NO_TENANT, "tenant", "orders", {"SELECT orders"}),
        (NO_FOREIGN_KEYS_INDEX, "foreign key", "order_lines", {"INSERT order_lines"}),
    ],
    ids=["no index", "no tenant in the index", "no index of the foreign key"],
)
def test_a_missing_index_is_found(  # noqa: PLR0917 - a mutation, what is found of it, and three fixtures
    mutation: str, kind: str, table: str, statements: set[str], shop: Shop, plans: Plans, postgres: Postgres
) -> None:
    """With the table, and the statements that would wait for it."""
    postgres.execute(mutation, database=shop.database.name)
    use(shop)
    with pytest.raises(PlansError) as caught:
        plans.check()
    found = caught.value.findings
    assert {(one.kind, str(one.table)) for one in found} == {(kind, table)}
    assert {one.statement.summary for one in found} == statements
    assert all(text in str(caught.value) for one in found for text in (one.statement.id, f"{table}: "))
