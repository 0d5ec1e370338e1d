"""The statements, built and not run: who executes them decides on transaction and tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, Update, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from .model import ARRIVES_FROM
from .tables import order_lines, orders

if TYPE_CHECKING:
    import datetime as dt
    import uuid

    from sqlalchemy import Insert

    from .model import NewOrder, Page, StatusChange

_SHOWN = (
    orders.c.id,
    orders.c.customer,
    orders.c.currency,
    orders.c.total_minor,
    orders.c.status,
    orders.c.version,
    orders.c.created_at,
)


def insert_order(order: NewOrder) -> Insert:
    """The order's row, returned as stored; no row where its id is there already, as when a message comes twice."""
    values = {
        "id": order.id,
        "customer": order.customer,
        "currency": order.currency,
        "total_minor": order.total_minor,
    }
    return upsert(orders).values(values).on_conflict_do_nothing().returning(*_SHOWN)


def insert_lines(order: NewOrder) -> Insert:
    """All lines of the order in one statement."""
    rows: list[dict[str, Any]] = [
        {
            "order_id": order.id,
            "position": position,
            "sku": line.sku,
            "quantity": line.quantity,
            "unit_price_minor": line.unit_price_minor,
        }
        for position, line in enumerate(order.lines, start=1)
    ]
    return insert(order_lines).values(rows)


def select_order(order_id: uuid.UUID) -> Select[Any]:
    """One order, or no row."""
    return select(*_SHOWN).where(orders.c.id == order_id)


def select_lines(order_id: uuid.UUID) -> Select[Any]:
    """The order's lines, in their order."""
    columns = (order_lines.c.sku, order_lines.c.quantity, order_lines.c.unit_price_minor)
    return select(*columns).where(order_lines.c.order_id == order_id).order_by(order_lines.c.position)


def select_page(page: Page) -> Select[Any]:
    """A page of orders, newest first, and one more row if there is a further page.

    By key and not by offset: an offset reads all that it skips, and repeats or skips rows while others are added.
    """
    statement = select(*_SHOWN).order_by(orders.c.id.desc()).limit(page.limit + 1)
    if page.after is not None:
        statement = statement.where(orders.c.id < page.after)
    if page.status is not None:
        statement = statement.where(orders.c.status == page.status)
    return statement


def update_status(order_id: uuid.UUID, change: StatusChange) -> Update:
    """The order in its new status; no row where version or status does not allow it."""
    return (
        update(orders)
        .where(orders.c.id == order_id, orders.c.version == change.version)
        .where(orders.c.status.in_(ARRIVES_FROM[change.status]))
        .values(status=change.status, version=orders.c.version + 1, updated_at=func.now())
        .returning(*_SHOWN)
    )


def select_totals(day: dt.date) -> Select[Any]:
    """Number and sum of the day's orders (UTC) for each tenant and currency, cancelled ones left out."""
    in_utc = func.timezone("UTC", orders.c.created_at)
    return (
        select(orders.c.tenant_id, orders.c.currency, func.count(), func.sum(orders.c.total_minor))
        .where(func.date(in_utc) == day, orders.c.status != "cancelled")
        .group_by(orders.c.tenant_id, orders.c.currency)
        .order_by(orders.c.tenant_id, orders.c.currency)
    )
