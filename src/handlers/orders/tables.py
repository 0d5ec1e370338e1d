"""The tables, in SQLAlchemy Core. ``handlers/migrations`` makes them; a test holds both together.

A row's tenant is the transaction's: its default reads what ``db.begin(tenant=...)`` set, and row-level security
compares with the same. So no statement here names a tenant, and none can name another's.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    Uuid,
    func,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_tenant_of_transaction = text("current_setting('app.tenant_id')")

orders = Table(
    "orders",
    metadata,
    Column("tenant_id", Text, nullable=False, server_default=_tenant_of_transaction),
    Column("id", Uuid, nullable=False),
    Column("customer", Text, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("total_minor", BigInteger, nullable=False),  # in the currency's smallest unit
    Column("status", Text, nullable=False, server_default="pending"),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    # The tenant leads: a page of one tenant's orders is one range of the key, and an id of another's cannot collide.
    PrimaryKeyConstraint("tenant_id", "id"),
    CheckConstraint("total_minor >= 0", name="total"),
    CheckConstraint("status IN ('pending', 'paid', 'shipped', 'delivered', 'cancelled')", name="status"),
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("tenant_id", Text, nullable=False, server_default=_tenant_of_transaction),
    Column("order_id", Uuid, nullable=False),
    Column("position", Integer, nullable=False),
    Column("sku", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price_minor", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant_id", "order_id", "position"),
    ForeignKeyConstraint(["tenant_id", "order_id"], ["orders.tenant_id", "orders.id"], ondelete="CASCADE"),
    CheckConstraint("quantity > 0", name="quantity"),
    CheckConstraint("unit_price_minor >= 0", name="unit_price"),
)
