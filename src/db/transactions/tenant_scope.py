"""The tenant that a unit of work is for: the one that it names, else the one that ``scope()`` bound around it."""

from __future__ import annotations

import contextlib
import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING

from db.errors import TenantError

if TYPE_CHECKING:
    from collections.abc import Iterator


TENANT_MAX_CHARS = 255


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
