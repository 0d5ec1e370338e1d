"""The wire: what goes over the socket to the database, in how many round trips, and what became of it.

A *flight* is all that is sent before the next wait: one round trip. The *prologue* is the statement that goes behind
BEGIN and says tenant, time limits and search path for the transaction. *Riders* are commands that wait for the next
flight instead of taking one of their own: savepoints above all.

``riders`` decides what may share a flight; ``deferred_begin`` keeps BEGIN back on a connection, and ``cursors`` lets a
statement take it along; ``pipeline`` sends a flight and reads its answers; ``psycopg_connections`` are psycopg's
classes with all that mixed in. ``psycopg_dialect`` and ``asyncpg_dialect`` are what SQLAlchemy sees of it; ``replay``
sends a first flight again over a new connection; ``commit_outcome`` notes whether COMMIT was sent and answered.

It knows psycopg, asyncpg and SQLAlchemy's dialects, below their public interfaces too, and nobody else in ``db`` does.
It must not know Lambda, settings, secrets or logs. A change of what is sent, when, or how an answer is read goes here;
of what a prologue says, into ``transactions``; of how a connection is opened, into ``pool``.
"""
