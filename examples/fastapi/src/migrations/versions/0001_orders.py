"""Orders, each tenant's to itself.

Revision ID: 0001
"""

import os

import sqlalchemy as sa
from alembic import op
from db.migrations.operations import enable_tenant_rls, grant

revision = "0001"
down_revision = None

APP_ROLE = os.environ.get("APP_ROLE") or "app"


def upgrade():
    op.create_table(
        "orders",
        sa.Column("tenant_id", sa.Text, primary_key=True, server_default=sa.text("current_setting('app.tenant_id')")),
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Column("total_minor", sa.BigInteger, nullable=False),
    )
    enable_tenant_rls(op, "orders")
    grant(op, "SELECT, INSERT", "orders", to=APP_ROLE)


def downgrade():
    op.drop_table("orders")
