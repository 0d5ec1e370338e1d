"""Functions, blocks and connections of the wrong kind: said at once, and before anything commits."""

from __future__ import annotations

import contextlib
import gc
import re
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

import db
from db import aio
from db.environment import event_loop, process
from db.transactions.callables import WrongKindError
from db.transactions.open_units import open_units

from .conftest import Use
from .fix_once import effects  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

INSERT = text("INSERT INTO effects (note) VALUES ('x')")
STORED = text("SELECT (SELECT count(*) FROM db_once) + (SELECT count(*) FROM effects)")
EVENT = {"Records": [{"messageId": "m1", "body": "b", "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:x:1:q"}]}


# Those that are refused are never entered.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*was never entered:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What a traceback still holds is not to be warned of in another test."""
    yield
    gc.collect()


async def coroutine(tx: Any, *_: Any) -> None:
    raise AssertionError("never runs")


def generator(tx: Any, *_: Any) -> Iterator[int]:
    tx.execute(INSERT)
    yield 1


async def async_generator(tx: Any, *_: Any) -> AsyncIterator[int]:
    yield 1


def of_a_coroutine(tx: Any, *args: Any) -> Any:
    tx.execute(INSERT)
    return coroutine(tx, *args)


def of_a_generator(tx: Any, *_: Any) -> Any:
    return (tx.execute(INSERT) for _ in "a")


def of_a_block(tx: Any, *_: Any) -> Any:
    tx.execute(INSERT)
    return db.read()


@contextlib.contextmanager
def manager(tx: Any, *_: Any) -> Iterator[None]:
    tx.execute(INSERT)
    yield


class Callee:
    async def __call__(self, *_: Any) -> None:
        raise AssertionError("never runs")


FUNCTIONS = [
    coroutine,
    generator,
    async_generator,
    of_a_coroutine,
    of_a_generator,
    of_a_block,
    manager,
    Callee(),
]
CALLS: dict[str, Callable[[Any], Any]] = {
    "db.run": db.run,
    "db.once": lambda fn: db.once("k").run(fn),
    "db.batch": lambda fn: db.batch(EVENT, fn),
    "db.idempotent": lambda fn: db.idempotent(key="id", name="x")(fn)({"id": 1}, None),
}


@pytest.mark.usefixtures("effects")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fn", FUNCTIONS, ids=lambda fn: getattr(fn, "__name__", "a callable"))
def test_work_that_has_not_been_done_is_not_committed(fn: Any, call: str) -> None:
    """A coroutine that nobody awaits, a generator that nobody runs: the call that is for them is named."""
    with pytest.raises(TypeError, match=re.escape("db.once" if call == "db.idempotent" else call) + "|" + call):
        CALLS[call](fn)
    with db.read() as conn:
        assert conn.execute(STORED).scalar_one() == 0


@pytest.mark.parametrize("tenant", [coroutine, generator, Callee()])
def test_a_batchs_tenant_that_is_not_named_at_once_is_refused(tenant: Any) -> None:
    """Every record would be reported, at every delivery, and no error would say why."""
    with pytest.raises(TypeError, match="tenant of a batch is a plain function"):
        db.batch(EVENT, plain, tenant=tenant)
    with pytest.raises(TypeError, match="tenant of a batch is a plain function"):
        event_loop.run(aio.batch(EVENT, coroutine, tenant=tenant))
    event_loop.close()
    assert process.DEFAULT.peek() is None


ASYNC_CALLS: dict[str, Callable[[Any], Any]] = {
    "db.aio.run": aio.run,
    "db.aio.once": lambda fn: aio.once("k").run(fn),
    "db.aio.batch": lambda fn: aio.batch(EVENT, fn),
    "db.aio.idempotent": lambda fn: aio.idempotent(key="id", name="x")(fn)({"id": 1}, None),
}


def plain(tx: Any, *_: Any) -> int:
    return 1


def gives_nothing(tx: Any, *_: Any) -> None:
    tx.execute(INSERT).close()  # a coroutine, which is not awaited


@pytest.mark.usefixtures("effects")
@pytest.mark.parametrize("call", ASYNC_CALLS)
@pytest.mark.parametrize("fn", [plain, gives_nothing, generator, async_generator])
def test_what_cannot_be_awaited_is_said_to_be_so(fn: Any, call: str) -> None:
    """In the twin for ``async def``."""
    with pytest.raises(TypeError, match=call):
        event_loop.run(ASYNC_CALLS[call](fn))
    event_loop.close()


@pytest.mark.parametrize("unit", [db.begin, db.read, db.session], ids=["begin", "read", "session"])
def test_a_block_without_with_says_how_it_is_entered(unit: Any) -> None:
    """Whatever is asked of it."""
    use_of: list[Callable[[Any], Any]] = [
        lambda block: block.execute(INSERT),
        lambda block: event_loop.run(awaits(block)),
        lambda block: event_loop.run(enters(block)),
    ]
    for use in use_of:
        with pytest.raises(TypeError, match=rf"with db\.{unit.__name__}\(\) as"):
            use(unit())
    assert not hasattr(unit(), "execute")  # an AttributeError as well, for who looks before
    event_loop.close()


async def awaits(block: Any) -> None:
    await block


async def enters(block: Any) -> None:
    async with block:
        raise AssertionError("never runs")


@pytest.mark.parametrize("unit", [aio.begin, aio.read, aio.session], ids=["begin", "read", "session"])
def test_a_block_for_async_def_as_well(unit: Any) -> None:
    """There it is ``async with``."""
    with pytest.raises(TypeError, match=rf"async with db\.aio\.{unit.__name__}\(\) as"), unit():
        raise AssertionError("never runs")
    with pytest.raises(TypeError, match=rf"async with db\.aio\.{unit.__name__}\(\) as"):
        unit().execute(INSERT)


@pytest.mark.parametrize(
    "make",
    [
        *(db.begin, db.read, db.session, aio.begin, aio.session),
        *(lambda: db.scope(tenant="acme"), lambda: db.once("key"), lambda: aio.once("key")),
    ],
)
def test_a_block_that_is_never_entered_is_warned_of(make: Callable[[], Any]) -> None:
    """As Python warns of a coroutine that is never awaited."""
    with pytest.warns(RuntimeWarning, match="was never entered"):
        make()


ENTERED: dict[str, Callable[[], Any]] = {
    "begin": db.begin,
    "read": db.read,
    "once": lambda: db.once("key"),
    "scope": lambda: db.scope(tenant="acme"),
}


@pytest.mark.usefixtures("effects")
@pytest.mark.parametrize("unit", ENTERED)
def test_nothing_is_lost_where_a_block_that_was_entered_goes(unit: str) -> None:
    """What a signal's handler raises in a ``__del__`` is printed and dropped, so there is none: that is an alarm's."""
    block = ENTERED[unit]()
    assert hasattr(block, "__del__")  # until it is used
    with block:
        pass
    assert not hasattr(block, "__del__")


@pytest.mark.parametrize("unit", ["begin", "read"])
def test_a_unit_whose_block_never_came_ends_with_whoever_holds_it(use: Use, unit: str) -> None:
    """As where a signal's handler raises behind ``__enter__`` and ahead of the block: its connection is free again."""
    use(pool_timeout_s=0.0)
    block = ENTERED[unit]()
    block.__enter__()
    del block
    with db.begin():
        pass


@pytest.mark.usefixtures("effects")
def test_what_was_used_is_not_warned_of() -> None:
    """By a function, where that is one of its two uses; on the event loop as well."""

    async def scenario() -> None:
        async with aio.begin() as tx:
            await tx.execute(INSERT)
        await aio.once("later").run(notes_nothing)

    async def notes_nothing(_tx: Any) -> None:
        pass

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        db.once("now").run(lambda _tx: None)
        event_loop.run(scenario())
        gc.collect()
    assert [str(one.message) for one in warned] == []
    db.dispose()
    event_loop.close()


@pytest.mark.usefixtures("effects")
def test_a_transaction_that_is_none_is_refused() -> None:
    """With what to give instead."""
    takers: list[Callable[[Any], Any]] = [
        lambda tx: db.once("k", tx=tx),
        lambda tx: db.copy_rows("effects", [(1,)], tx=tx),
    ]
    with db.session() as orm:
        wrong = {db.begin(): "block of db.begin", orm: "session.connection", 1: "not int"}
        for tx, words in wrong.items():
            for take in takers:
                with pytest.raises(TypeError, match=words):
                    take(tx)

    async def scenario() -> None:
        async with aio.begin() as later:
            for take in takers:
                with pytest.raises(TypeError, match=r"db\.aio\."):
                    take(later)
        with db.begin() as now, pytest.raises(TypeError, match=r"take db\.once"):
            aio.once("k", tx=now)  # type: ignore[arg-type]

    event_loop.run(scenario())
    db.dispose()
    event_loop.close()


def test_rows_that_come_asynchronously_are_refused(use: Use) -> None:
    """Before a transaction begins."""
    use()
    with pytest.raises(TypeError, match="plain iterable"):
        db.copy_rows("effects", async_generator(None))  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", ["begin", "read"])
def test_a_block_of_a_unit_serves_as_a_decorator_and_once_only_as_a_block(use: Use, unit: str) -> None:
    """As contextlib's: each call of the function has a unit of its own."""
    use()
    counted = ENTERED[unit]()(lambda: len(open_units()))
    assert [counted(), counted()] == [1, 1]
    block = ENTERED[unit]()
    with block, pytest.raises(RuntimeError, match=rf"db\.{unit}\(\) gives a block that is entered once"):
        block.__enter__()
    for later in (coroutine, generator):
        with pytest.raises(WrongKindError):
            ENTERED[unit]()(later)  # the unit would be over before the function has begun
