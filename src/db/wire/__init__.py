"""The wire: what goes over the socket to the database, in how many round trips, and what became of it.

A *flight* is all that is sent before the next wait: one round trip. The *prologue* is the statement that goes behind
BEGIN and says tenant, time limits and search path for the transaction. *Riders* are commands that wait for the next
flight instead of taking one of their own: savepoints above all.

``statement_kinds`` reads in a statement's text how it has to travel and what it leaves behind, ``session_leftovers`` is
who is told of that, and how a session is rid of it; ``riders`` keeps what waits. ``serving`` is whom a connection works
for, and ``deferred_begin`` its half of a flight: it makes the text of BEGIN and keeps it back; ``transaction_end`` is
how one ends, and what is known of that; ``cursors`` is a cursor's half, which takes along what is due,
``server_cursors`` that of one whose rows come bit by bit, and ``columns`` the description of a result. ``pipeline``
sends a flight and reads its answers, ``queued_answers`` reads those within psycopg's own pipeline; ``statement_names``
has the names of statements that come often, and what they add to a flight;
``psycopg_connections`` are psycopg's classes with all that mixed in. ``psycopg_dialect`` and ``asyncpg_dialect`` are
what SQLAlchemy sees; ``replay`` decides whether, and how often, a flight that met a dead connection is sent again, and
``first_flight`` what whoever opens that one is told; ``commit_outcome`` notes whether COMMIT was sent and answered;
``late_levels`` refuses an isolation level that a unit of work is told when it has begun. ``encoding`` is the one in
which all of it is written; ``search_path`` reads DB_SCHEMA, and knows the layer's own functions in it; ``hstore`` is
the one type whose number the dialect may look up. ``forked`` parts a forked child from its parent's connections.

``departure`` takes statements in that leave with the COMMIT of their transaction, and says what became of it.
``copy_data`` makes rows what COPY reads, and ``copy_binary`` says what it may be given in binary. ``orjson_codec``
reads and writes JSON in the standard library's stead.

asyncpg has no flights, but sends several commands without values in one text. ``asyncpg_connections`` are its classes
while somebody holds one; ``asyncpg_due`` is what goes ahead of the next statement, with its values as literals;
``asyncpg_protocol`` sends that, and looks at what goes through them; ``asyncpg_errors`` gives its errors the names that
psycopg has, and ``asyncpg_replay`` is ``replay`` for it.

SQLite has neither socket nor flights. ``sqlite_connections`` are sqlite3's classes while somebody holds one: what they
begin, limit and undo is what psycopg's would; ``sqlite_dialect`` is what SQLAlchemy sees.

MySQL's protocol has no pipeline, and takes several statements in one packet. ``mysql_connections`` are PyMySQL's
connections with what opens and ends a unit of work in the packets of its statements. They are made of layers:
``mysql_session`` connects, and knows whether the server still listens; ``mysql_packets`` sends a packet and gives each
statement its answer; ``mysql_limits`` says limits, and kills what outlasts them; ``mysql_serving`` is whom a connection
works for, and what it says for that one ahead of a statement; ``mysql_transaction_end`` is how a transaction ends.
``mysql_text`` reads in a text whether it may share a packet; ``mysql_dialect`` is what SQLAlchemy sees, with a replay
of its own, and ``mariadb_dialect`` the same for a URL that says MariaDB. ``mysql_async_connections`` are the same
connections for ``db.aio``, over ``mysql_loop_socket``, which waits on the event loop.

Aurora DSQL speaks PostgreSQL's protocol and takes no SET: ``dsql_connections`` are psycopg's connections with flights,
less all that is said to a session, and ``dsql_dialect`` is what SQLAlchemy sees.

It knows psycopg, asyncpg, PyMySQL, sqlite3 and SQLAlchemy's dialects, below their public interfaces too, and nobody
else in ``db`` does, but for the result codes that ``engines`` reads. It must not know Lambda, settings, secrets or
logs. A change of what is sent, when, or how an answer is read goes here; of what a prologue says, into
``transactions``; of how a connection is opened, into ``pool``.
"""
