"""The middleware: one request as one invocation, from its first message to what is left to do behind its answer."""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import math
import time
from typing import TYPE_CHECKING, Any

from db.environment.handler_decorator import is_first_call, served
from db.errors import TenantError
from db.timing.invocation import bound_invocation, unbound
from db.transactions.open_units import no_units
from db.transactions.tenant_scope import no_scope
from db.transactions.tenant_scope import scope as tenant_scope

from .caller import invocation_of, is_a_call, is_by_adapter
from .problems import problem
from .units import Units, none_shared, of_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    # Each framework has types of its own for the messages of ASGI.
    Scope = MutableMapping[str, Any]
    Send = Callable[[Any], Awaitable[None]]
    App = Callable[[Any, Any, Any], Awaitable[None]]


_KEY = "db.asgi"  # in the scope of a request that is an invocation by now
_bound_by_us: contextvars.ContextVar[bool | None] = contextvars.ContextVar("db_asgi_bound", default=None)


class Middleware:
    """ASGI middleware that makes each HTTP request an invocation: deadline, request id, cold or warm, metrics.

    Under Mangum and the Lambda Web Adapter the deadline and the request id are Lambda's. Elsewhere the deadline is
    ``request_timeout_s`` after the request began, None for none; it bounds statements, and cancels no route. The
    request id is then that of ``x-request-id``, where it is usable, else a new one.

    ``tenant`` is a plain function that is given the scope: what it returns is bound as by ``db.scope`` for the length
    of the request, and None binds nothing. It is for what an authorizer has verified (``db.asgi.request_context``).
    A header that a client sends is no tenant. What is no usable name is answered with 403.

    An answer that begins while a transaction is open that writes is refused, as its COMMIT may yet fail. Behind the
    Lambda Web Adapter the answer's last message is held back until the application has done all that it does behind
    it, background tasks among that: Lambda freezes the process once the answer is complete. Mangum waits by itself.

    Inside of ``@db.invocation`` it leaves the invocation as it is, and adds the tenant. What is not HTTP, WebSockets
    and the lifespan, goes through untouched. Raises TypeError and ValueError for arguments of no use.
    """

    def __init__(
        self,
        app: App,
        *,
        tenant: Callable[[Scope], str | None] | None = None,
        request_timeout_s: float | None = None,
    ) -> None:
        if tenant is not None and (not callable(tenant) or _is_awaited(tenant)):
            raise TypeError("tenant is a plain function of the scope, which returns a string or None")
        if request_timeout_s is not None and not 0 < request_timeout_s < math.inf:
            raise ValueError(
                f"request_timeout_s is {request_timeout_s}: it is to be a number of seconds above 0, or None"
            )
        self.app = app
        self.tenant = tenant
        self.request_timeout_s = request_timeout_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with contextlib.ExitStack() as apart:
            if _KEY not in scope and _bound_by_us.get() is not None:
                # A server begins a request in the context of the one before it on the same connection: where requests
                # are pipelined, or reading was paused. What that one had bound is not this one's, its tenant above all.
                for without in (unbound, no_scope, no_units, none_shared):
                    apart.enter_context(without())
            if scope["type"] == "http":
                await self._serve(scope, receive, send)
            else:
                await self.app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Any, send: Send) -> None:
        answer = _Answering(send, held_back=is_by_adapter(scope))
        try:
            async with self._invocation(scope), _units() as units:
                answer.units = units
                try:
                    bound = self._tenant(scope)
                except TenantError as error:
                    await (await problem(None, error))(scope, receive, answer)
                    return
                with bound:
                    await self.app(scope, receive, answer)
        finally:
            await answer.complete()

    @contextlib.asynccontextmanager
    async def _invocation(self, scope: Scope) -> AsyncIterator[None]:
        if bound_invocation() is not None:  # by @db.invocation, or by this middleware around a part of it
            yield
            return
        scope[_KEY] = True
        token = _bound_by_us.set(True)
        # Cold is the first event, not what the adapter asks before it.
        cold = is_a_call(scope) and is_first_call()
        invocation = invocation_of(scope, request_timeout_s=self.request_timeout_s, cold=cold, now=time.time())
        # Lambda's own process serves one at a time; a server, inside of Lambda too, what comes.
        try:
            with served(invocation, alone="aws.context" in scope):
                yield
        finally:
            _bound_by_us.reset(token)

    def _tenant(self, scope: Scope) -> contextlib.AbstractContextManager[None]:
        tenant = self.tenant(scope) if self.tenant is not None else None
        return contextlib.nullcontext() if tenant is None else tenant_scope(tenant=tenant)


def _is_awaited(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


@contextlib.asynccontextmanager
async def _units() -> AsyncIterator[Units]:
    token = of_request.set(units := Units())
    try:
        yield units
    finally:
        of_request.reset(token)
        await units.end()


class _Answering:
    """``send``, for one request."""

    units: Units

    def __init__(self, send: Send, *, held_back: bool) -> None:
        self._send = send
        self._held_back = held_back
        self._last: Any = None

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.units.refuse_to_answer()
        if self._held_back and message["type"] == "http.response.body" and not message.get("more_body", False):
            self._last = message
        else:
            await self.complete()  # trailers come behind it
            await self._send(message)

    async def complete(self) -> None:
        """Send what was held back."""
        last, self._last = self._last, None
        if last is not None:
            await self._send(last)
