"""The text of a prologue: one statement that says the tenant, the time limits and the search path for a transaction.

``set_config(..., true)`` is SET LOCAL as an expression: PostgreSQL forgets it at the end of the transaction, so neither
a pooled nor a proxied connection can carry one caller's tenant to the next. Pure.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.wire.search_path import PROLOGUE_FUNCTION, qualified

if TYPE_CHECKING:
    from db.timing.deadline import Limits


TENANT_SETTING = "app.tenant_id"
_MS = b"%dms"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, match_args=False)
class PrologueSql:
    """What holds in one transaction, and is said in its prologue. None is left as the session has it.

    But no tenant is said as '': so one that a statement set for the session does not reach the next transaction.
    Behind RDS Proxy ``set_config`` in a statement's text pins the session, and a stored function's is not looked into:
    ``through_function`` says the same by ``PROLOGUE_FUNCTION``, which a migration installs in the first schema of that
    search path.
    """

    tenant: str | None = None
    search_path: str | None = None
    application_name: str | None = None
    through_function: bool = False

    def statement(self, limits: Limits, *, read_only: bool = False) -> tuple[bytes, list[bytes | None]]:
        """One PostgreSQL statement that sets all of it for the transaction, and its parameters."""
        statement_s, lock_s, transaction_s = limits
        # Zero would mean no limit at all. Of a float, formatting takes half as long again.
        limit, lock_limit = _MS % (int(statement_s * 1000.0) or 1), _MS % (int(lock_s * 1000.0) or 1)
        key = transaction_s is not None, read_only
        said = self._said
        text, held = said[key] if key in said else self._say(*key)
        if transaction_s is None:
            return text, [limit, lock_limit, limit, *held]
        return text, [limit, lock_limit, limit, _MS % (int(transaction_s * 1000.0) or 1), *held]

    def _say(self, bounds_transaction: bool, read_only: bool) -> tuple[bytes, list[bytes | None]]:
        """The text, and what follows the numbers of its parameters: the same each time."""
        values = [*self._held, b"on" if read_only else None]
        if self.through_function:
            said = self._call, values if bounds_transaction else [None, *values]
        else:
            given = [value is not None for value in values]
            text = _set_config(True, True, True, bounds_transaction, *given)
            said = text, [value for value in values if value is not None]
        self._said[bounds_transaction, read_only] = said
        return said

    @functools.cached_property
    def _said(self) -> dict[tuple[bool, bool], tuple[bytes, list[bytes | None]]]:
        return {}

    @functools.cached_property
    def _call(self) -> bytes:
        return f"SELECT {qualified(PROLOGUE_FUNCTION, self.search_path)}($1, $2, $3, $4, $5, $6, $7, $8)".encode()

    @functools.cached_property
    def _held(self) -> list[bytes | None]:
        held = (self.tenant or "", self.search_path, self.application_name)
        return [None if value is None else value.encode() for value in held]


@functools.lru_cache(maxsize=64)  # an environment serves few tenants at a time, each of them often
def prologue_sql(
    tenant: str | None, search_path: str | None, application_name: str | None, *, through_function: bool
) -> PrologueSql:
    """The text for these values, the one that was made before where there is one: it has encoded its values already."""
    return PrologueSql(
        tenant=tenant,
        search_path=search_path,
        application_name=application_name,
        through_function=through_function,
    )


# What a prologue sets, in the order of PrologueSql.statement and of the function below.
_SETTINGS = (
    "statement_timeout",
    "lock_timeout",
    # A handler that stalls or is killed between statements must not hold its locks for longer than it lives.
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    TENANT_SETTING,
    "search_path",
    "application_name",
    "transaction_read_only",
)


@functools.cache  # of as many texts as there are sets of values that go together: a handful
def _set_config(*given: bool) -> bytes:
    names = [name for name, is_given in zip(_SETTINGS, given, strict=True) if is_given]
    calls = [f"set_config('{name}', ${number}, true)" for number, name in enumerate(names, 1)]
    if "transaction_timeout" in names:
        # Off and on again: a timer that a default of role or database started at BEGIN is not set anew by a value.
        calls.insert(names.index("transaction_timeout"), "set_config('transaction_timeout', '0', true)")
    # Whatever gives one column: an answer describes each of its columns, which both sides would have to write and read.
    return f"SELECT num_nulls({', '.join(calls)})".encode()


CREATE_PROLOGUE_FUNCTION = f"""
CREATE OR REPLACE FUNCTION {PROLOGUE_FUNCTION}(
    statement_timeout text, lock_timeout text, idle_in_transaction_session_timeout text, transaction_timeout text,
    tenant text, search_path text, application_name text, transaction_read_only text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true),
        set_config('idle_in_transaction_session_timeout', $3, true);
    IF $4 IS NOT NULL THEN
        PERFORM set_config('transaction_timeout', '0', true), set_config('transaction_timeout', $4, true);
    END IF;
    IF $5 IS NOT NULL THEN PERFORM set_config('{TENANT_SETTING}', $5, true); END IF;
    IF $6 IS NOT NULL THEN PERFORM set_config('search_path', $6, true); END IF;
    IF $7 IS NOT NULL THEN PERFORM set_config('application_name', $7, true); END IF;
    IF $8 IS NOT NULL THEN PERFORM set_config('transaction_read_only', $8, true); END IF;
END $$
"""
