"""Work: what is built of units of work: once, in batches, in bulk, by reflection.

``once`` runs work a single time for a key, on the table in ``once_records``; ``as_json`` writes what it keeps, and
``idempotent`` makes a handler of it. ``batch`` answers a queue or a stream, ``event_records`` reads its records,
``batch_attempt`` runs them all in one transaction, or ``batch_one_by_one`` in one each where there are no savepoints.
``copy_rows`` loads in bulk what ``copy_plan`` makes of the rows, with asyncpg by ``copy_on_asyncpg``; ``reflect`` reads
an existing schema; ``prime`` makes ready what the first units need. ``database`` has all of it for a database beside
the default one.

Each module stands on ``transactions`` and none on another feature's insides. It must not know how a transaction is
opened or a connection found, and sends nothing but through a unit. A new kind of work is a module here; an event
source, a row in ``event_records``.
"""
