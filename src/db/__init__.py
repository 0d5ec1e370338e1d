"""Data access for Python on AWS Lambda: credentials, pools, deadlines and a structured trace around SQLAlchemy.

    import db

    @db.invocation
    def handler(event, context):
        with db.begin(tenant="t1") as tx:
            tx.execute(insert(orders).values(...))

The environment configures it (docs/settings.md). Nothing connects, and nothing heavy loads, before it is used.
"""

from .batch import batch
from .bulk import copy_rows
from .errors import (
    AlreadyDoneError,
    CapacityError,
    ConfigurationError,
    CredentialsError,
    DbError,
    DeadlineError,
    InvalidKeyError,
    KeyReusedError,
    OutcomeUnknownError,
    TenantError,
    Verdict,
    sqlstate,
    verdict,
)
from .handler import invocation
from .idempotency import idempotent
from .once import once, purge_once
from .reflection import reflect
from .runtime import configure, dispose, engine, status
from .scope import scope
from .settings import Settings
from .transaction import begin, fetch, read, run, session

__all__ = [
    "AlreadyDoneError",
    "CapacityError",
    "ConfigurationError",
    "CredentialsError",
    "DbError",
    "DeadlineError",
    "InvalidKeyError",
    "KeyReusedError",
    "OutcomeUnknownError",
    "Settings",
    "TenantError",
    "Verdict",
    "batch",
    "begin",
    "configure",
    "copy_rows",
    "dispose",
    "engine",
    "fetch",
    "idempotent",
    "invocation",
    "once",
    "purge_once",
    "read",
    "reflect",
    "run",
    "scope",
    "session",
    "sqlstate",
    "status",
    "verdict",
]
