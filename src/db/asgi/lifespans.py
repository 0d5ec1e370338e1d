"""The application's lifespan, and its handler for Lambda: one event loop, and what ends with the process."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from db.environment import event_loop, handler_decorator, process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@asynccontextmanager
async def lifespan(_app: object = None) -> AsyncIterator[None]:
    """A lifespan, or a part of one: closes every connection of this process at its end.

    Opens nothing at its start. Mangum may run the lifespan with each invocation (``lifespan="auto"``, its default):
    within an invocation nothing is closed, as the next one needs it, and Lambda ends the process without asking. Under
    a server it closes the connections of ``db.aio`` on the loop that they belong to, which runs for the last time.

        app = FastAPI(lifespan=db.asgi.lifespan)

        @asynccontextmanager
        async def mine(app):
            async with db.asgi.lifespan(app):
                yield {"client": ...}
    """
    try:
        yield
    finally:
        if not handler_decorator.is_in_a_call():
            await _dispose()


async def _dispose() -> None:
    if "greenlet" in sys.modules:  # not loaded, there are no connections of db.aio
        from sqlalchemy.util import greenlet_spawn

        await greenlet_spawn(_dispose_all)
    else:
        _dispose_all()


def _dispose_all() -> None:
    for runtime in process.runtimes():
        runtime.dispose()


def lambda_handler(app: Callable[..., Awaitable[None]], **options: Any) -> Callable[..., Any]:
    """A Lambda handler for ``app``: Mangum, with ``options``, under ``@db.invocation``, on the event loop of ``db``.

    Connections of ``db.aio`` belong to the loop that they were made on. This is the one that outlives the invocations,
    so the next one finds them. ``application/problem+json`` is text, unless ``text_mime_types`` says what is. Mangum
    has to be installed; raises ImportError where it is not.
    """
    from mangum import Mangum
    from mangum.adapter import DEFAULT_TEXT_MIME_TYPES

    # Mangum sends in base64 what it does not know as text, and API Gateway's REST APIs hand that on as it is.
    options.setdefault("text_mime_types", [*DEFAULT_TEXT_MIME_TYPES, "application/problem+json"])
    # Mangum asks for the thread's loop when it is made, and with each call.
    with event_loop.at_hand():
        adapter = Mangum(cast("Any", app), **options)

    @handler_decorator.invocation
    def handler(event: Any, context: Any) -> Any:
        with event_loop.at_hand():
            return adapter(event, context)

    return handler
