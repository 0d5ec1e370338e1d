"""What people get wrong with units of work and what is built of them, and what they are told.

How a row is read is said in ``tests/contract/mistakes.py``. The functions of the wrong kind, each over every call, are
in ``test_kinds_of_functions``.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
import functools
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import db
from db import aio
from db.environment import event_loop
from tests.contract.mistakes import ONE, At, Make, Row, at, call, call_aio, on_sqlite, read, require_said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from sqlalchemy import Connection

__all__ = ["at"]  # a fixture

pytestmark = pytest.mark.slow

ADD = text("INSERT INTO notes VALUES (7, 'seven')")
REFUSED = db.ConfigurationError


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str]


def work(*_: Any, **__: Any) -> None:
    """What does nothing."""


async def later(*_: Any) -> None:
    """Likewise, where it is awaited."""


def call_of(fn: Any) -> Any:
    return fn()


def calls_later() -> Coroutine[Any, Any, None]:
    return later()


def in_pieces(*_: Any) -> Iterator[int]:
    yield 1


async def rows_later() -> AsyncIterator[tuple[int, str]]:
    yield 1, "one"


def queue(**records: str) -> dict[str, Any]:
    """An event of a queue, with these bodies by message id."""
    source = {"eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-central-1:1:orders"}
    return {"Records": [{"messageId": name, "body": body} | source for name, body in records.items()]}


# Where a mistake is made.


def anywhere(make: Callable[[], object]) -> Make:
    """Where there is no database, as none is asked."""
    return lambda _at: make()


def beside_notes(make: Callable[[], object], **settings: Any) -> Make:
    """Where there are tables."""

    def made(at: At) -> None:
        at.table(**settings)
        make()

    return made


def in_unit(make: Callable[[Any], object], **arguments: Any) -> Make:
    """In a transaction that has begun."""

    def made(at: At) -> None:
        at.table()
        with db.begin(**arguments) as tx:
            tx.execute(ONE)
            make(tx)

    return made


def in_read(make: Callable[[Any], object]) -> Make:
    def made(at: At) -> None:
        at.table()
        with db.read() as conn:
            make(conn)

    return made


def in_session(make: Callable[[Any], object], **arguments: Any) -> Make:
    def made(at: At) -> None:
        at.table()
        with db.session(**arguments) as session:
            make(session)

    return made


def in_async_def(make: Callable[[], Coroutine[Any, Any, object]], **settings: Any) -> Make:
    """On the event loop."""

    def made(at: At) -> None:
        at.table(**settings)
        try:
            event_loop.run(make())
        finally:
            db.dispose()

    return made


def with_options(on_engine: Any = None, **options: Any) -> Make:
    """With these options of the engine."""

    def made(at: At) -> None:
        database = at.server()
        call.configure(db.Settings(url=database.url()), engine_options=options, on_engine=on_engine)
        read()

    return made


async def an_async_listener(_: Any) -> None: ...


def a_generator_of_listeners(_: Any) -> Iterator[None]:
    yield


# The mistakes that take more than a line.


async def enters(block: Any) -> None:
    async with block:
        raise AssertionError("never runs")


async def awaits(given: Any) -> None:
    await given


def enters_plainly(block: Any) -> None:
    with block:
        raise AssertionError("never runs")


async def begins_after(unit: Any, then: Callable[[Any], Any]) -> None:
    async with unit as tx:
        await tx.execute(ONE)
        await then(tx)


async def within_units_of_two_loops() -> None:
    async with aio.begin() as tx:
        await tx.execute(ONE)

    async def elsewhere() -> None:
        async with aio.begin() as tx:
            await tx.execute(ONE)

    await asyncio.to_thread(asyncio.run, elsewhere())


async def opens_units_inside_of_each_other() -> None:
    async with aio.begin() as tx, aio.read() as conn:
        await tx.execute(ONE)
        await conn.execute(ONE)


def two_at_once() -> None:
    with db.begin() as tx, db.read() as conn:
        tx.execute(ONE)
        conn.execute(ONE)


def three_at_once() -> None:
    with db.begin() as one, db.begin() as two, db.begin() as three:
        for tx in (one, two, three):
            tx.execute(ONE)


def in_a_thread_without_the_tenant() -> None:
    met: list[Exception] = []

    def asks() -> None:
        try:
            read()
        except db.TenantError as error:
            met.append(error)

    @db.invocation
    def handler(_event: Any, _context: Any) -> None:
        with db.scope(tenant="acme"):
            thread = threading.Thread(target=asks)
            thread.start()
            thread.join()

    handler({}, None)
    raise met[0]


def holds_it_twice() -> None:
    scope = db.scope(tenant="acme")
    with scope, scope:
        pass


def after_its_block() -> None:
    with db.begin() as tx:
        tx.execute(ONE)
    db.once("key", tx=tx).run(work)


def waits_for_a_connection() -> None:
    with db.engine().connect() as held:
        held.execute(ONE)
        with db.engine().connect() as conn:
            conn.execute(ONE)


def swallows_a_failure(tx: Connection) -> None:
    with contextlib.suppress(exc.DBAPIError):
        tx.execute(text("SELECT 1 / 0"))


def goes_on_after_commit(tx: Connection) -> None:
    tx.commit()
    tx.execute(ONE)


def goes_on_after_rollback(tx: Connection) -> None:
    tx.rollback()
    tx.execute(ONE)


def uses_another_payload() -> None:
    db.once("order", payload={"total": 1}).run(work)
    db.once("order", payload={"total": 2}).run(work)


def hides_its_key() -> None:
    @db.idempotent(key="card", payload="total", name="charge")
    def charge(_tx: Connection, event: Any, _context: Any) -> Any:
        return event["total"]

    charge({"card": "never shown", "total": 1})
    charge({"card": "never shown", "total": 2})


def stores_a_set() -> None:
    block = db.once("order")
    with block:
        block.result = {"tags": {"a"}}


def comes_again() -> None:
    for _ in range(2):
        with db.once("order") as tx:
            tx.execute(ONE)


VANISH = """
CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(10); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER vanish AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION vanish()
"""


def loses_the_answer_to_commit() -> None:
    with db.begin() as tx:
        tx.execute(text(VANISH))
    with db.begin() as tx:
        tx.execute(ADD)


def meets_itself_in_a_batch() -> None:
    def stale(tx: Connection, _record: Any) -> None:
        tx.execute(text("DO $$ BEGIN RAISE 'stale' USING ERRCODE = 'serialization_failure'; END $$"))

    db.batch(queue(a="{}"), stale, raise_on_entire_batch_failure=True)


def without_privileges(at: At) -> None:
    database = at.table()
    with db.begin() as tx:
        tx.execute(text(f"REVOKE ALL ON db_once FROM {database.app}"))
    db.configure(db.Settings(url=database.url()))
    db.once("order").run(work)


def without_the_prologue_function(at: At) -> None:
    at.server(proxy="rds-proxy")
    read()


def with_an_option(name: str, value: Any) -> Callable[[Any], Any]:
    return lambda tx: tx.execution_options(**{name: value})


def itself() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["self"] = found
    return found


copy = functools.partial(call.copy_rows, "notes")
EPOCH = datetime.date(1970, 1, 1)
MISTAKES: list[Row] = [
    # Functions of the wrong kind.
    (
        "function: one that is called already",
        anywhere(lambda: call.run(call_of(work))),
        TypeError,
        ("without calling it",),
    ),
    ("function: a statement", anywhere(lambda: call.run(ONE)), TypeError, ("db.run takes a function", "TextClause")),
    (
        "function: of once",
        anywhere(lambda: call.once("k").run(call_of(work))),
        TypeError,
        ("db.once takes a function",),
    ),
    ("function: of batch", anywhere(lambda: call.batch(queue(a=""), 7)), TypeError, ("db.batch takes", "int")),
    ("function: before the event", anywhere(lambda: call.batch(work, queue())), TypeError, ("db.batch takes", "dict")),
    ("function: async def to run", beside_notes(lambda: db.run(later)), TypeError, ("later", "db.aio.run")),
    ("function: async def to batch", anywhere(lambda: db.batch(queue(), later)), TypeError, ("db.aio.batch",)),
    ("function: async def to once", beside_notes(lambda: db.once("k").run(later)), TypeError, ("db.aio.once",)),
    (
        "function: async def to idempotent",
        anywhere(lambda: db.idempotent(key="id")(later)),
        TypeError,
        ("later", "db.aio.idempotent"),
    ),
    ("function: def to aio.run", in_async_def(lambda: call_aio.run(work)), TypeError, ("async def", "db.run")),
    (
        "function: a coroutine to aio.run",
        in_async_def(lambda: call_aio.run(later())),
        TypeError,
        ("db.aio.run takes a function", "without calling it"),
    ),
    ("function: a generator to run", beside_notes(lambda: db.run(in_pieces)), TypeError, ("yield", "list")),
    ("function: a generator as handler", anywhere(lambda: db.invocation(in_pieces)), TypeError, ("answer", "yield")),
    ("carry: what is no function", anywhere(lambda: call.carry(3)), TypeError, ("db.carry(fn)", "int")),
    (
        "carry: what a coroutine function gave",
        anywhere(lambda: call.carry(later())),
        TypeError,
        ("db.carry(fn)", "not db.carry(fn(…))"),
    ),
    ("carry: a generator", anywhere(lambda: db.carry(in_pieces)), TypeError, ("in_pieces", "return a list")),
    (
        "carry: a lambda of async def",
        beside_notes(lambda: call_of(db.carry(calls_later))),
        TypeError,
        ("function itself",),
    ),
    # Blocks.
    ("block: no with", anywhere(lambda: call.begin().execute(ONE)), TypeError, ("with db.begin() as",)),
    (
        "block: no with, and once",
        anywhere(lambda: call.once("k").execute(ONE)),
        TypeError,
        ("with db.once(key) as tx",),
    ),
    ("block: never entered", anywhere(db.begin), RuntimeWarning, ("never entered", "with db.begin() as")),
    ("block: aio, never entered", anywhere(aio.read), RuntimeWarning, (": async with db.aio.read() as",)),
    ("block: once, never entered", anywhere(lambda: db.once("k")), RuntimeWarning, ("db.once(key).run(fn)",)),
    ("block: aio.once, never entered", anywhere(lambda: aio.once("k")), RuntimeWarning, (": async with db.aio.once",)),
    ("block: scope, never entered", anywhere(lambda: db.scope(tenant="t")), RuntimeWarning, ("with db.scope(tenant",)),
    ("block: async with", in_async_def(lambda: enters(db.begin())), TypeError, ("with db.begin() as", "db.aio")),
    ("block: async with scope", in_async_def(lambda: enters(db.scope(tenant="t"))), TypeError, (": with db.scope",)),
    ("block: async with once", in_async_def(lambda: enters(db.once("k"))), TypeError, ("db.aio.once",)),
    (
        "block: with for async def",
        anywhere(lambda: enters_plainly(aio.begin())),
        TypeError,
        ("async with db.aio.begin",),
    ),
    (
        "block: with for aio.once",
        anywhere(lambda: enters_plainly(aio.once("k"))),
        TypeError,
        ("async with db.aio.once",),
    ),
    ("block: await", in_async_def(lambda: awaits(aio.begin())), TypeError, ("async with db.aio.begin() as",)),
    ("block: await once", in_async_def(lambda: awaits(aio.once("k"))), TypeError, ("await db.aio.once(key).run(fn)",)),
    ("block: a tenant by position", anywhere(lambda: call.begin("t")), TypeError, ("db.begin(tenant=…)", "isolation")),
    ("block: the same for aio", anywhere(lambda: call_aio.read("t")), TypeError, ("db.aio.read(tenant=…)",)),
    ("scope: a tenant by position", anywhere(lambda: call.scope("acme")), TypeError, ("db.scope(tenant=…)",)),
    ("scope: twice at a time", anywhere(holds_it_twice), RuntimeError, ("make another",)),
    ("scope: a thread", beside_notes(in_a_thread_without_the_tenant), db.TenantError, ("db.carry(fn)", "tenant=")),
    # Units of work.
    ("unit: inside of another", beside_notes(two_at_once), REFUSED, ("inside of another", "DB_POOL_SIZE")),
    ("unit: inside of two", beside_notes(three_at_once, pool_size=2), REFUSED, ("inside of 2 others", "outer one's")),
    (
        "unit: aio, inside of another",
        in_async_def(opens_units_inside_of_each_other, async_connections=1),
        REFUSED,
        ("inside of another", "DB_ASYNC_CONNECTIONS"),
    ),
    ("unit: a level in small letters", in_unit(work, isolation="serializable"), ValueError, ("write 'SERIALIZABLE'",)),
    ("unit: a level with a line", in_unit(work, isolation="REPEATABLE_READ"), ValueError, ("write 'REPEATABLE READ'",)),
    (
        "unit: a level that is none",
        in_unit(work, isolation="SNAPSHOT"),
        ValueError,
        ("one of READ COMMITTED, REPEATABLE",),
    ),
    (
        "unit: a level too late",
        in_unit(with_an_option("isolation_level", "SERIALIZABLE")),
        exc.InvalidRequestError,
        ('db.begin(isolation="SERIALIZABLE")', "db.batch"),
    ),
    (
        "unit: autocommit too late",
        in_unit(with_an_option("isolation_level", "AUTOCOMMIT")),
        exc.InvalidRequestError,
        ('db.engine().connect().execution_options(isolation_level="AUTOCOMMIT")',),
    ),
    (
        "unit: a level for the session's connection",
        in_session(lambda session: session.connection(execution_options={"isolation_level": "SERIALIZABLE"})),
        exc.InvalidRequestError,
        ("db.session", "isolation="),
    ),
    (
        "unit: SET TRANSACTION too late",
        in_unit(lambda tx: tx.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))),
        exc.DBAPIError,
        ("before any query", 'db.begin(isolation="SERIALIZABLE")'),
    ),
    (
        "unit: VACUUM",
        in_unit(lambda tx: tx.execute(text("VACUUM notes"))),
        exc.DBAPIError,
        ("inside a transaction block", 'db.engine().connect().execution_options(isolation_level="AUTOCOMMIT")'),
    ),
    (
        "unit: an index, concurrently",
        in_unit(lambda tx: tx.execute(text("CREATE INDEX CONCURRENTLY ON notes (note)"))),
        exc.DBAPIError,
        ('isolation_level="AUTOCOMMIT"',),
    ),
    ("unit: a statement as a string", in_unit(lambda tx: tx.execute("SELECT 1")), exc.ArgumentError, ("text(",)),
    ("unit: after commit", in_unit(goes_on_after_commit), exc.InvalidRequestError, ("commits when the block ends",)),
    ("unit: after rollback", in_unit(goes_on_after_rollback), exc.InvalidRequestError, ("begin_nested()",)),
    ("unit: a failure caught", in_unit(swallows_a_failure), exc.PendingRollbackError, ("around a begin_nested()",)),
    ("unit: configure in it", in_unit(lambda _: db.configure()), REFUSED, ("db.configure()", "before or after")),
    ("unit: dispose in it", in_unit(lambda _: db.dispose()), exc.DBAPIError, ("db.dispose()", "before or after")),
    (
        "unit: COMMIT without an answer",
        beside_notes(loses_the_answer_to_commit),
        db.OutcomeUnknownError,
        ("unknown", "look whether", "not repeat it blindly", "db.once"),
    ),
    ("read: a write", in_read(lambda conn: conn.execute(ADD)), exc.DBAPIError, ("read-only", "db.begin()")),
    ("fetch: a string", anywhere(lambda: call.fetch("SELECT 1")), TypeError, ("select(", "text(")),
    ("fetch: a list", anywhere(lambda: call.fetch([ONE, ONE])), TypeError, ("one after another",)),
    (
        "fetch: what gives no rows",
        beside_notes(lambda: db.fetch(ONE, text("SET LOCAL work_mem = '64MB'"))),
        exc.InvalidRequestError,
        ("statement 2", "SET LOCAL", "db.begin()"),
    ),
    ("fetch: a write", beside_notes(lambda: db.fetch(ADD)), exc.DBAPIError, ("read-only", "db.begin()")),
    (
        "prologue: no function",
        without_the_prologue_function,
        REFUSED,
        ("DB_PROXY=rds-proxy", "create_prologue_function"),
    ),
    # Sessions.
    ("session: tx by position", in_unit(call.session), TypeError, ("by name", "tx, read_only")),
    (
        "session: tx is a session",
        in_unit(lambda tx: enters_plainly(call.session(tx=Session(tx)))),
        TypeError,
        ("session.connection()",),
    ),
    (
        "session: tx is a block",
        anywhere(lambda: enters_plainly(call.session(tx=db.begin()))),
        TypeError,
        ("db.begin()",),
    ),
    (
        "session: a tenant beside tx",
        in_unit(lambda tx: enters_plainly(db.session(tx=tx, tenant="acme"))),
        TypeError,
        ("db.session(…, tx=tx)", "leave them out"),
    ),
    (
        "session: something to write, read-only",
        in_session(lambda session: session.add(Note(id=1, note="one")), read_only=True),
        exc.InvalidRequestError,
        ("read-only session", "write"),
    ),
    (
        "session: a level, read-only",
        in_session(work, read_only=True, isolation="SERIALIZABLE"),
        TypeError,
        ("db.read(snapshot=True)",),
    ),
    # Once.
    ("once: no privileges", without_privileges, REFUSED, ("db_once", "create_once_table(op, used_by=[role])")),
    ("once: a key that is too long", anywhere(lambda: db.once("k" * 300)), db.InvalidKeyError, ("255", "has 300")),
    ("once: no key", anywhere(lambda: call.once(None)), db.InvalidKeyError, ("string", "NoneType")),
    (
        "once: a payload with a date",
        anywhere(lambda: db.once("k", payload={"at": [EPOCH]})),
        TypeError,
        ("payload of db.once, at ['at'][0]", "date", "isoformat()"),
    ),
    (
        "once: a payload that holds itself",
        anywhere(lambda: db.once("k", payload=itself())),
        TypeError,
        ("payload of db.once, at ['self']", "Circular"),
    ),
    (
        "once: a payload by tuples",
        anywhere(lambda: db.once("k", payload={"prices": {("a", 1): 2}})),
        TypeError,
        ("payload of db.once, at a key of ['prices']", "not tuple"),
    ),
    (
        "once: a result with decimals",
        beside_notes(lambda: db.once("k").run(lambda _: {"items": [{"price": decimal.Decimal("9.99")}]})),
        TypeError,
        ("result of db.once, at ['items'][0]['price']", "Decimal", "str()"),
    ),
    ("once: a result with a set", beside_notes(stores_a_set), TypeError, ("result of db.once, at ['tags']", "set")),
    (
        "once: an expiry as a time span",
        anywhere(lambda: call.once("k", expires_in_s=datetime.timedelta(days=1))),
        TypeError,
        ("seconds", "total_seconds()"),
    ),
    ("once: an expiry of nothing", anywhere(lambda: db.once("k", expires_in_s=0)), ValueError, ("expires_in_s", "0")),
    (
        "once: a tenant beside tx",
        in_unit(lambda tx: db.once("k", tx=tx, tenant="acme")),
        TypeError,
        ("db.once(…, tx=tx)", "leave them out"),
    ),
    ("once: tx after its block", beside_notes(after_its_block), exc.ResourceClosedError, ("closed",)),
    ("once: aio, with a plain tx", in_unit(lambda tx: call_aio.once("k", tx=tx)), TypeError, ("take db.once",)),
    ("once: another payload", beside_notes(uses_another_payload), db.KeyReusedError, ("'order'", "another payload")),
    ("once: again, as a block", beside_notes(comes_again), db.AlreadyDoneError, ("'order'", "has been done")),
    (
        "idempotent: another payload",
        beside_notes(hides_its_key),
        db.KeyReusedError,
        ("that card finds in the event of charge", "db_once", "another payload"),
    ),
    (
        "idempotent: an event without the key",
        anywhere(lambda: call.idempotent(key="body.id")(work)({"body": {}}, None)),
        db.InvalidKeyError,
        ("holds no key", "body.id"),
    ),
    ("idempotent: no arguments", anywhere(lambda: call.idempotent(work)), TypeError, ("db.idempotent(key=…)",)),
    ("purge: a limit below 0", anywhere(lambda: db.purge_once(limit=-1)), ValueError, ("limit is -1",)),
    # Batches.
    (
        "batch: 40001 of a record's own",
        beside_notes(meets_itself_in_a_batch),
        ExceptionGroup,
        ("all 1 records", "SerializationFailure", "stale"),
    ),
    # Rows.
    ("rows: one that is text", beside_notes(lambda: copy(["ab"])), TypeError, ("row 1 is a str", "tuple")),
    ("rows: one that is a number", beside_notes(lambda: copy([1, 2])), TypeError, ("row 1 is a int", "dict")),
    ("rows: a later one that is None", beside_notes(lambda: copy([(1, "a"), None])), ValueError, ("row 2 is None",)),
    ("rows: one alone", beside_notes(lambda: copy({"id": 1})), TypeError, ("an iterable of rows", "[row]")),
    ("rows: none at all", beside_notes(lambda: copy(None)), TypeError, ("an iterable of rows", "NoneType")),
    ("rows: that come later", beside_notes(lambda: copy(rows_later())), TypeError, ("plain iterable",)),
    (
        "rows: two kinds",
        beside_notes(lambda: copy([(1, "a"), {"id": 2, "note": "b"}])),
        ValueError,
        ("row 2 is a dict", "one kind"),
    ),
    (
        "rows: one without a column",
        beside_notes(lambda: copy([{"id": 1, "note": "a"}, {"id": 2}])),
        ValueError,
        ("row 2", "id, note"),
    ),
    (
        "rows: a value of another type",
        beside_notes(lambda: copy([(1, "a"), ("two", "b")])),
        exc.DataError,
        ("line 2, column id",),
    ),
    ("rows: a column as a string", beside_notes(lambda: copy([(1,)], columns="id")), TypeError, ("['id']",)),
    ("rows: a class as table", beside_notes(lambda: call.copy_rows(Note, [])), TypeError, ("take its __table__",)),
    (
        "rows: a tenant beside tx",
        in_unit(lambda tx: copy([], tx=tx, tenant="acme")),
        TypeError,
        ("db.copy_rows(…, tx=tx)",),
    ),
    (
        "rows: progress that is none",
        beside_notes(lambda: copy([], progress=3)),
        TypeError,
        ("progress of db.copy_rows",),
    ),
    ("reflect: one table as a string", on_sqlite(lambda: db.reflect(only="notes")), TypeError, ("['notes']",)),
    # The engine.
    ("engine: an option that is none", with_options(json_dumps=str), REFUSED, ("json_dumps", "create_engine")),
    ("engine: an option of a setting", with_options(pool_size=3), REFUSED, ("pool_size", "DB_POOL_SIZE")),
    ("engine: an option of the layer's", with_options(creator=work), REFUSED, ("creator", "layer's own")),
    ("engine: a serializer by its name", with_options(json_serializer="orjson"), REFUSED, ("json_serializer", "str")),
    ("engine: options that are no dict", with_options(execution_options=5), REFUSED, ("execution_options", "a dict")),
    ("engine: an option SQLAlchemy refuses", with_options(future=False), REFUSED, ("future", "True")),
    ("engine: a level in small letters", with_options(isolation_level="serializable"), REFUSED, ("'SERIALIZABLE'",)),
    (
        "engine: a level among the options",
        with_options(execution_options={"isolation_level": "SERIALIZABLE"}),
        REFUSED,
        ("isolation_level is an option of its own",),
    ),
    ("engine: a listener that is none", with_options(on_engine=3), TypeError, ("on_engine", "function of an engine")),
    (
        "engine: a listener that is async",
        with_options(on_engine=an_async_listener),
        TypeError,
        ("on_engine", "ordinary function", "sync_engine"),
    ),
    (
        "engine: a listener that is a generator",
        with_options(on_engine=a_generator_of_listeners),
        TypeError,
        ("on_engine", "ordinary function"),
    ),
    ("engine: options as a string", anywhere(lambda: call.configure(engine_options="x")), TypeError, ("a dict", "str")),
    (
        "engine: a second connection from it",
        beside_notes(waits_for_a_connection),
        REFUSED,
        ("would wait for itself", "in waits_for_a_connection", "close it first", "DB_POOL_SIZE"),
    ),
    # The event loop.
    (
        "loop: a second one",
        in_async_def(within_units_of_two_loops, async_connections=2),
        REFUSED,
        ("another event loop",),
    ),
    ("loop: gather of a list", in_async_def(lambda: call_aio.gather([later()])), TypeError, ("takes awaitables",)),
    ("loop: gather of nothing at a time", in_async_def(lambda: aio.gather(limit=0)), ValueError, ("limit is 0",)),
]


@pytest.mark.parametrize(
    ("make", "error", "words"), [row[1:] for row in MISTAKES], ids=[row[0].replace(" ", "-") for row in MISTAKES]
)
def test_a_mistake_is_named_with_its_remedy(at: At, make: Make, error: type[Exception], words: tuple[str, ...]) -> None:
    """By the error's type, and by what its message and its notes hold."""
    require_said(at, make, error, words)


def test_each_mistake_is_there_once() -> None:
    """By its name, which is what a failure is known by."""
    names = [row[0] for row in MISTAKES]
    assert sorted(set(names)) == sorted(names)
