"""Orders from the queue."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import ORDER, Shop, record

if TYPE_CHECKING:
    from devkit.servers.postgres import Postgres


def order(**changed: Any) -> dict[str, Any]:
    return ORDER | {"id": str(uuid.uuid4())} | changed


def stored(shop: Shop, postgres: Postgres) -> list[tuple[Any, ...]]:
    return postgres.execute("SELECT tenant_id, customer FROM orders ORDER BY 1, 2", database=shop.database.name)


def test_a_bad_record_fails_alone(shop: Shop, postgres: Postgres) -> None:
    """Its neighbours are stored."""
    failed = shop.intake(
        record("1", order()),
        record("2", "not json"),
        record("3", order(lines="none")),
        record("4", order(), tenant=None),
        record("5", order(), tenant=" "),
        record("6", order(customer="c-2"), tenant="globex"),
    )
    assert failed == ["2", "3", "4", "5"]
    assert stored(shop, postgres) == [("acme", "c-1"), ("globex", "c-2")]


def test_a_record_that_comes_twice_is_stored_once(shop: Shop, postgres: Postgres) -> None:
    """In one batch or in two, with its lines."""
    twice = order()
    assert shop.intake(record("1", twice), record("2", twice)) == []
    assert shop.intake(record("1", twice)) == []
    assert stored(shop, postgres) == [("acme", "c-1")]
    assert postgres.execute("SELECT count(*) FROM order_lines", database=shop.database.name) == [(1,)]


@pytest.mark.parametrize(
    "other",
    [
        {"customer": "c-2"},
        {"currency": "USD"},
        {"lines": [{"sku": "other", "quantity": 1, "unit_price_minor": 1}]},
        {"lines": ORDER["lines"] * 2},
    ],
    ids=["customer", "currency", "lines", "one line more"],
)
def test_another_order_under_a_known_id_is_sent_back(other: dict[str, Any], shop: Shop, postgres: Postgres) -> None:
    """As the API answers 422: an acknowledged message is gone, and nobody would know of the order in it."""
    first = order()
    assert shop.intake(record("1", first)) == []
    assert shop.intake(record("2", first | other), record("3", first)) == ["2"]
    assert stored(shop, postgres) == [("acme", "c-1")]


def test_a_message_that_comes_twice_in_a_batch_is_stored_once(shop: Shop, postgres: Postgres) -> None:
    """Two messages of one id that differ are both sent back."""
    same = record("1", order())
    assert shop.intake(same, same, record("2", order(customer="c-2")), record("2", order(customer="c-3"))) == ["2"]
    assert stored(shop, postgres) == [("acme", "c-1")]


def test_the_same_id_of_two_tenants_is_two_orders(shop: Shop, postgres: Postgres) -> None:
    """An id cannot take another tenant's place."""
    same = order()
    assert shop.intake(record("1", same, "acme"), record("2", same, "globex")) == []
    assert stored(shop, postgres) == [("acme", "c-1"), ("globex", "c-1")]


def test_an_order_and_its_lines_are_stored_together_or_not_at_all(shop: Shop, postgres: Postgres) -> None:
    """Nothing half-written."""
    postgres.execute("DROP TABLE order_lines", database=shop.database.name)
    assert shop.intake(record("1", order())) == ["1"]
    assert stored(shop, postgres) == []


@pytest.mark.parametrize("count", [1, 10])
def test_a_batch_of_any_size_is_answered(count: int, shop: Shop, postgres: Postgres) -> None:
    """From one record to what the event source sends at the most."""
    assert shop.intake(*(record(str(n), order()) for n in range(count))) == []
    assert len(stored(shop, postgres)) == count
