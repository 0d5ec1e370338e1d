"""What holds for one transaction and no longer: the tenant, the time limits, the search path. One prologue says it all.

``set_config(..., true)`` is SET LOCAL as an expression: PostgreSQL forgets it at the end of the transaction, so neither
a pooled nor a proxied connection can carry one caller's tenant to the next. Pure but for the context variable that
``scope()`` binds.
"""

from __future__ import annotations

import contextlib
import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import TenantError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Dialect

TENANT_SETTING = "app.tenant_id"
TENANT_MAX_CHARS = 255
_TRANSACTION_TIMEOUT_SINCE = (17,)


@dataclass(eq=False)
class _Binding:
    """A tenant bound by a block. What has ended is passed over, so blocks may end in any order, as generators do."""

    tenant: str
    outer: _Binding | None
    active: bool = True


_innermost: contextvars.ContextVar[_Binding | None] = contextvars.ContextVar("db_tenant", default=None)


@contextlib.contextmanager
def scope(*, tenant: str) -> Iterator[None]:
    """Bind ``tenant`` for every ``begin``, ``read``, ``session`` and ``run`` in the block that names none itself.

    It holds for this context: a thread that the block starts has to bind its own. Raises TenantError where the name is
    not usable.
    """
    binding = _Binding(checked_tenant(tenant), outer=_active())
    _innermost.set(binding)
    try:
        yield
    finally:
        binding.active = False


def _active() -> _Binding | None:
    binding = _innermost.get()
    while binding is not None and not binding.active:
        binding = binding.outer
    return binding


def tenant_for(tenant: str | None, *, required: bool) -> str | None:
    """The tenant of a unit of work: the one it names, else the bound one. Raises TenantError."""
    bound = _active()
    chosen = checked_tenant(tenant) if tenant is not None else bound.tenant if bound else None
    if chosen is None and required:
        raise TenantError("DB_TENANT_REQUIRED is set and no tenant is: pass tenant=, or bind one with db.scope()")
    return chosen


def checked_tenant(tenant: str) -> str:
    """``tenant`` if PostgreSQL can hold it as a setting's value. It travels as a parameter, so quotes mean nothing."""
    if not isinstance(tenant, str):
        raise TenantError(f"a tenant is a string, not {type(tenant).__name__}")
    if not tenant.strip() or "\x00" in tenant or len(tenant) > TENANT_MAX_CHARS:
        raise TenantError(f"a tenant is 1 to {TENANT_MAX_CHARS} characters, not all of them blank, none of them NUL")
    if not tenant.isprintable() and any("\ud800" <= char <= "\udfff" for char in tenant):
        raise TenantError("a tenant holds no lone surrogates: they cannot be sent as UTF-8")
    return tenant


def has_transaction_timeout(dialect: Dialect) -> bool:
    """Whether the server can bound a whole transaction: from PostgreSQL 17 on."""
    return (dialect.server_version_info or ()) >= _TRANSACTION_TIMEOUT_SINCE


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The transaction-local settings of one unit of work."""

    tenant: str | None
    statement_timeout_s: float
    transaction_timeout_s: float | None = None  # where the server has it
    search_path: str | None = None

    def prologue(self) -> tuple[str, tuple[str, ...]]:
        """One PostgreSQL statement that sets them, and its parameters."""
        limit = _milliseconds(self.statement_timeout_s)
        pairs = [
            ("statement_timeout", limit),
            # A handler that stalls or is killed between statements must not hold its locks for longer than it lives.
            ("idle_in_transaction_session_timeout", limit),
        ]
        if self.transaction_timeout_s is not None:
            # Off and on again: a timer that a default of role or database started at BEGIN is not set anew by a value.
            pairs += [("transaction_timeout", "0"), ("transaction_timeout", _milliseconds(self.transaction_timeout_s))]
        if self.tenant is not None:
            pairs.append((TENANT_SETTING, self.tenant))
        if self.search_path is not None:
            pairs.append(("search_path", self.search_path))
        calls = ", ".join(f"set_config('{name}', %s, true)" for name, _ in pairs)
        return f"SELECT {calls}", tuple(value for _, value in pairs)


def _milliseconds(seconds: float) -> str:
    # Zero would mean no limit at all.
    return f"{max(int(seconds * 1000), 1)}ms"
