"""Orders and their lines, each tenant's rows to itself.

Revision ID: 0001
"""

from __future__ import annotations

import os

import sqlalchemy as sa
from alembic import op

from db.migrations.operations import enable_tenant_rls, grant

revision = "0001"
down_revision = None

# The login roles that the functions use, made with their secrets before the first deploy (docs/start/database.md).
APP_ROLE = os.environ.get("APP_ROLE") or "app"
REPORT_ROLE = os.environ.get("REPORT_ROLE") or "report"

TENANT = sa.text("current_setting('app.tenant_id')")


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("tenant_id", sa.Text, nullable=False, server_default=TENANT),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("total_minor", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False, server_default="pending"),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_orders"),
        sa.CheckConstraint("total_minor >= 0", name="ck_orders_total"),
        sa.CheckConstraint(
            "status IN ('pending', 'paid', 'shipped', 'delivered', 'cancelled')", name="ck_orders_status"
        ),
    )
    op.create_table(
        "order_lines",
        sa.Column("tenant_id", sa.Text, nullable=False, server_default=TENANT),
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("unit_price_minor", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "order_id", "position", name="pk_order_lines"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "order_id"],
            ["orders.tenant_id", "orders.id"],
            name="fk_order_lines_orders",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("quantity > 0", name="ck_order_lines_quantity"),
        sa.CheckConstraint("unit_price_minor >= 0", name="ck_order_lines_unit_price"),
    )
    for table in ("orders", "order_lines"):
        enable_tenant_rls(op, table)
    report = op.get_context().dialect.identifier_preparer.quote(REPORT_ROLE)
    op.execute(f"CREATE POLICY report ON orders FOR SELECT TO {report} USING (true)")
    grant(op, "SELECT", "orders", to=REPORT_ROLE)
    grant(op, "SELECT, INSERT, UPDATE", "orders", to=APP_ROLE)
    grant(op, "SELECT, INSERT", "order_lines", to=APP_ROLE)


def downgrade() -> None:
    op.drop_table("order_lines")
    op.drop_table("orders")
