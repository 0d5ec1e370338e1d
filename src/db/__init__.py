"""Data access for Python on AWS Lambda: credentials, pools, deadlines and a structured trace around SQLAlchemy.

    import db

    @db.invocation
    def handler(event, context):
        with db.begin(tenant="t1") as tx:
            tx.execute(insert(orders).values(...))

The environment configures it (docs/settings.md). Nothing connects, and nothing heavy loads, before it is used.
"""

from .errors import (
    ConfigurationError,
    CredentialsError,
    DbError,
    DeadlineError,
    OutcomeUnknownError,
    TenantError,
    Verdict,
    sqlstate,
    verdict,
)
from .handler import invocation
from .runtime import configure, dispose, engine, status
from .scope import scope
from .settings import Settings
from .transaction import begin, read, run, session

__all__ = [
    "ConfigurationError",
    "CredentialsError",
    "DbError",
    "DeadlineError",
    "OutcomeUnknownError",
    "Settings",
    "TenantError",
    "Verdict",
    "begin",
    "configure",
    "dispose",
    "engine",
    "invocation",
    "read",
    "run",
    "scope",
    "session",
    "sqlstate",
    "status",
    "verdict",
]
