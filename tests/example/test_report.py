"""The daily report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers.orders import report

from .conftest import ORDER, Shop

if TYPE_CHECKING:
    from devkit.servers.postgres import Postgres


def test_the_day_before_is_summed_up_for_each_tenant(shop: Shop, postgres: Postgres) -> None:
    """By the event's time, in UTC, cancelled orders left out; the app's role could not see so far."""
    for tenant in ("acme", "acme", "globex"):
        shop.api("POST", "/orders", ORDER, claims={"tenant_id": tenant})
    cancelled = shop.api("POST", "/orders", ORDER).headers["Location"]
    shop.api("PATCH", cancelled, {"status": "cancelled", "version": 1})
    today = shop.api("POST", "/orders", ORDER).body["id"]
    postgres.execute(
        f"UPDATE orders SET created_at = '2026-11-21 23:59:59+00' WHERE id <> '{today}'", database=shop.database.name
    )
    shop.enter_as("owner")
    answer = report.handler({"time": "2026-11-22T02:00:00Z"}, shop.context(remaining_s=5))
    assert answer == {
        "day": "2026-11-21",
        "totals": [
            {"tenant_id": "acme", "currency": "EUR", "orders": 2, "total_minor": 5000},
            {"tenant_id": "globex", "currency": "EUR", "orders": 1, "total_minor": 2500},
        ],
    }


def test_the_report_clears_expired_keys_of_all_tenants(shop: Shop, postgres: Postgres) -> None:
    """The live ones stay."""
    for tenant, key in (("acme", "old"), ("globex", "old"), ("acme", "live")):
        shop.api("POST", "/orders", ORDER, key=key, claims={"tenant_id": tenant})
    name = shop.database.name
    postgres.execute("UPDATE db_once SET expires_at = now() WHERE key LIKE '% old'", database=name)
    shop.enter_as("owner")
    report.handler({"time": "2026-11-22T02:00:00Z"}, shop.context(remaining_s=5))
    assert postgres.execute("SELECT tenant_id, key FROM db_once", database=name) == [("acme", "create order live")]
