"""Data access for Python on AWS Lambda: credentials, pools, deadlines and a structured trace around SQLAlchemy.

    import db

    @db.invocation
    def handler(event, context):
        with db.begin(tenant="t1") as tx:
            tx.execute(insert(orders).values(...))

Environment variables configure it. Nothing connects, and nothing heavy loads, before it is used.

https://serverless-data-access.github.io/serverless-data-access/
has the settings, a page for each call, and what to do about each error.
"""

import typing as _typing  # not from it, as that would be a name of the face

from .environment.package_versions import check_packages as _check_packages

_check_packages()  # before what needs them: an import that fails further down would not say which file is in the way

from .environment.handler_decorator import invocation
from .environment.process import configure, dispose, engine, status
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
from .settings import Settings
from .transactions.begin import begin, session
from .transactions.read import fetch, read
from .transactions.run import run
from .transactions.tenant_scope import carry, scope

if _typing.TYPE_CHECKING:
    from .aio.database import Database
    from .migrations.preflight import check
    from .transactions.write import write
    from .work.batch import batch
    from .work.copy_rows import copy_rows
    from .work.idempotent import idempotent
    from .work.once import once
    from .work.once_records import purge_once
    from .work.prime import prime
    from .work.reflect import reflect

# Said here: what runs in Lambda has no metadata, and reading it would take milliseconds of a cold start.
__version__ = "0.2.0"

__all__ = [
    "AlreadyDoneError",
    "CapacityError",
    "ConfigurationError",
    "CredentialsError",
    "Database",
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
    "carry",
    "check",
    "configure",
    "copy_rows",
    "dispose",
    "engine",
    "fetch",
    "idempotent",
    "invocation",
    "once",
    "prime",
    "purge_once",
    "read",
    "reflect",
    "run",
    "scope",
    "session",
    "sqlstate",
    "status",
    "verdict",
    "write",
]


# Most functions have no use for more than one of these: each is loaded by who asks for it.
_ON_USE = {
    "Database": "work.database",
    "batch": "work.batch",
    "check": "migrations.preflight",
    "copy_rows": "work.copy_rows",
    "idempotent": "work.idempotent",
    "once": "work.once",
    "prime": "work.prime",
    "purge_once": "work.once_records",
    "reflect": "work.reflect",
    "write": "transactions.write",
}

if not _typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _ON_USE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        globals()[name] = found = getattr(import_module(f"{__name__}.{_ON_USE[name]}"), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
