"""The table of db.once: what is asked for twice with one key is done once.

Revision ID: 0002
"""

from __future__ import annotations

import os

from alembic import op

from db.migrations.operations import create_once_table, drop_once_table

revision = "0002"
down_revision = "0001"

# As in 0001.
APP_ROLE = os.environ.get("APP_ROLE") or "app"
REPORT_ROLE = os.environ.get("REPORT_ROLE") or "report"


def upgrade() -> None:
    create_once_table(op, used_by=[APP_ROLE], purged_by=REPORT_ROLE)


def downgrade() -> None:
    drop_once_table(op)
