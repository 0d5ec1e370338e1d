"""The same for ``async def`` handlers: each unit of work of ``db`` as a coroutine or an ``async with`` block.

    import db
    from db import aio

    @db.invocation
    async def handler(event, context):
        async with aio.begin(tenant="t1") as tx:
            await tx.execute(insert(orders).values(...))

Nothing is decided here: the plain functions run in greenlets, where whatever waits lets the event loop go on meanwhile
(``timing.waiting``). So arguments, promises and errors are those of ``db``. What waits for nothing has no twin:
``db.scope``, ``db.status``, ``db.dispose`` and the errors serve both. Not imported with ``db``, as it loads greenlet
and the ORM.

``units`` has the units of work; ``idempotency`` and ``loads``, what is built of them; ``tasks``, several at a time;
``database``, all of it for a database beside the default one; and ``greenlets`` is how a plain function is run. They
must not know anything that their plain twins do not: a decision, a default or an error goes there, and
``tests/aio/test_parity.py`` holds the two together.
"""

from .idempotency import idempotent, once, purge_once
from .loads import batch, copy_rows, reflect
from .tasks import gather
from .units import begin, engine, fetch, read, run, session, write

__all__ = [
    "batch",
    "begin",
    "copy_rows",
    "engine",
    "fetch",
    "gather",
    "idempotent",
    "once",
    "purge_once",
    "read",
    "reflect",
    "run",
    "session",
    "write",
]
