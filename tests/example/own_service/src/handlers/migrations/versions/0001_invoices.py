"""Invoices, each tenant's to itself; the report may read all of them.

Revision ID: 0001
"""

import os

import sqlalchemy as sa
from alembic import op
from db.migrations.operations import enable_tenant_rls, grant

revision = '0001'
down_revision = None

APP_ROLE = os.environ.get('APP_ROLE') or 'app'
REPORT_ROLE = os.environ.get('REPORT_ROLE') or 'report'


def upgrade():
    op.create_table(
        'invoices',
        sa.Column('tenant_id', sa.Text, nullable=False, server_default=sa.text("current_setting('app.tenant_id')")),
        sa.Column('id', sa.Uuid, nullable=False),
        sa.Column('customer', sa.Text, nullable=False),
        sa.Column('due', sa.Date, nullable=False),
        sa.Column('total_minor', sa.BigInteger, nullable=False),
        sa.Column('paid', sa.Boolean, nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint('tenant_id', 'id', name='pk_invoices'),
    )
    enable_tenant_rls(op, 'invoices')
    op.execute(f'CREATE POLICY report ON invoices FOR SELECT TO "{REPORT_ROLE}" USING (true)')
    grant(op, 'SELECT', 'invoices', to=REPORT_ROLE)
    grant(op, 'SELECT, INSERT, UPDATE', 'invoices', to=APP_ROLE)


def downgrade():
    op.drop_table('invoices')
