"""The functions that open a transaction behind RDS Proxy, for the parameter Proxy of the template.

Revision ID: 0003
"""

from __future__ import annotations

import os

from alembic import op

from db.migrations.operations import create_prologue_function, drop_prologue_function

revision = "0003"
down_revision = "0002"

# As in 0001.
APP_ROLE = os.environ.get("APP_ROLE") or "app"
REPORT_ROLE = os.environ.get("REPORT_ROLE") or "report"


def upgrade() -> None:
    create_prologue_function(op, used_by=[APP_ROLE, REPORT_ROLE])


def downgrade() -> None:
    drop_prologue_function(op)
