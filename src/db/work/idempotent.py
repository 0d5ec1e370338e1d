"""``idempotent``: a handler whose answer to an event is given once, and repeated from the record after that."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from db.environment.process import DEFAULT
from db.errors import InvalidKeyError, TenantError
from db.transactions.blocks import by_name
from db.transactions.callables import require_plain

from .as_json import as_json
from .once import DAY_S, once_on
from .once_records import hash_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from db.environment.handler_decorator import Handler
    from db.environment.process import Holder

    Search = Callable[[Any], Any]

T = TypeVar("T")
EventT = TypeVar("EventT")
ContextT = TypeVar("ContextT")


@by_name("db.idempotent")
def idempotent(
    *,
    key: str,
    payload: str | None = None,
    tenant: str | None = None,
    expires_in_s: float = DAY_S,
    name: str | None = None,
) -> Callable[[Callable[[Connection, EventT, ContextT], T]], Handler[EventT, ContextT, T]]:
    """Make ``handler(event, context)`` of ``fn(tx, event, context)``, which runs at most once for each key.

    ``key``, ``payload`` and ``tenant`` are JMESPath expressions into the event, as in Powertools' idempotency, its
    functions included: ``powertools_json(body).id``. All else is as ``db.once(...).run``: the answer commits with the
    work and is given again to a duplicate, as JSON gives it back; ``fn`` is tried again where that is safe.

    Keys of one function are no other's: ``name`` keeps them apart, the function's module and qualified name unless
    told otherwise. A function that is renamed and gives its old name here knows its old keys.

    A type checker takes the handler's event, context and answer for those of ``fn``. The context may be left away.

    Raises InvalidKeyError and TenantError where the event holds none, before anything is sent; jmespath's own errors,
    for what is no expression when it decorates, for one that does not fit the event when it is called; and the errors
    of ``db.once``.
    """
    return idempotent_on(DEFAULT, key=key, payload=payload, tenant=tenant, expires_in_s=expires_in_s, name=name)


def idempotent_on(
    holder: Holder,
    *,
    key: str,
    payload: str | None = None,
    tenant: str | None = None,
    expires_in_s: float = DAY_S,
    name: str | None = None,
) -> Callable[[Callable[[Connection, EventT, ContextT], T]], Handler[EventT, ContextT, T]]:
    """``idempotent``, on the database of ``holder``."""
    find_key, find_payload, find_tenant = _search(key), _search(payload), _search(tenant)

    def decorate(fn: Callable[[Connection, EventT, ContextT], T]) -> Handler[EventT, ContextT, T]:
        require_plain(fn, call=f"{holder.called}.idempotent")
        prefix = name or f"{fn.__module__}.{fn.__qualname__}"

        @functools.wraps(fn)
        def handler(event: EventT, context: Any = None) -> T:
            found, whose = find_key(event), find_tenant(event)
            with holder.named():
                if _is_missing(found):
                    raise InvalidKeyError(f"the event holds no key: {key}")
                if tenant is not None and whose is None:
                    raise TenantError(f"the event names no tenant: {tenant}")
            as_json(found, called=f"the key {key}")  # so that what it cannot hold has its place in the key
            # The hash has one length, whatever the event brings.
            hashed = hash_of([prefix, found], of=f"the key {key}")
            work = once_on(holder, hashed, tenant=whose, payload=find_payload(event), expires_in_s=expires_in_s)
            # Not the key itself: it may be all of a request.
            work.named = f"the key that {key} finds in the event of {prefix}, in db_once as {hashed},"
            return work.run(fn, event, context)

        return handler

    return decorate


def _search(expression: str | None) -> Search:
    if expression is None:
        return lambda _event: None
    import jmespath  # type: ignore[import-untyped]  # comes with Powertools
    from aws_lambda_powertools.utilities.jmespath_utils import PowertoolsFunctions

    options = jmespath.Options(custom_functions=PowertoolsFunctions())
    return functools.partial(jmespath.compile(expression).search, options=options)


def _is_missing(found: Any) -> bool:
    """Nothing, or a list or an object of nothing: what Powertools takes for no key."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list):
        return all(value is None for value in found)
    return found is None or (isinstance(found, str) and not found.strip())
