"""Two engines in step: each operation is done on this dialect and on the stock one, and what came of it compared."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import event, exc, text
from sqlalchemy.util import await_, greenlet_spawn

from .hands import Hands, told
from .verbs import BLOCKS, EXCEPTIONS, PIPELINED, SETTINGS, VERBS, WORK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection, Engine, NestedTransaction, TwoPhaseTransaction

    from .verbs import Verb

Observed = tuple[Any, ...]

ALARM_S = 0.02
HUNG_S = 30.0
SLEEP = "SELECT pg_sleep(30)"
KILLED = "57P01"
STATUS = psycopg.pq.TransactionStatus


class TooSlowError(Exception):
    """A program's own time limit. As people define it: no error of the driver's, no TimeoutError."""


class HungError(Exception):
    """Nothing has come of a step for ``HUNG_S``."""


@contextmanager
def alarm(seconds: float, what: type[Exception]) -> Iterator[None]:
    """Raise ``what`` out of whatever the block is in after ``seconds``, as the handler of a signal does."""

    def ring(*_: Any) -> None:
        raise what

    before = signal.signal(signal.SIGALRM, ring)
    left_s, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left_s)
        signal.signal(signal.SIGALRM, before)


class Side(Hands):
    """One of the two: an engine, the connection, and the savepoints and blocks that are open on it.

    ``kill`` ends its sessions from the server's side. ``unit`` makes a block with a connection in a transaction that
    inherits nothing: ``db.begin``. Without it, the connection is cleaned by hand before and after. With ``is_async``
    all runs in a greenlet.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        kill: Callable[[], None],
        is_async: bool = False,
        unit: Callable[[], AbstractContextManager[Connection]] | None = None,
    ) -> None:
        self.engine = engine
        self.name = name
        self.kill = kill
        super().__init__(is_async=is_async)
        self.listening: dict[str, str] = {}
        self.notices: list[str | None] = []
        self._make_unit = unit or self._plain_unit
        self._forget()
        for name_of_event in ("connect", "checkout", "checkin"):
            event.listen(engine, name_of_event, self._listener(name_of_event))

    def forget(self) -> None:
        """Begin anew, whatever a program that was not played to its end has left open."""
        self.listening.clear()
        for _, block in reversed(self.blocks):
            with contextlib.suppress(Exception):
                self.leave(block, None)
        if self.conn is not None:
            with contextlib.suppress(Exception):
                self.conn.invalidate()
            with contextlib.suppress(Exception):
                self._close()
        self._forget()

    def _forget(self) -> None:
        self.conn: Connection | None = None
        self.savepoints: list[NestedTransaction] = []
        self.blocks: list[tuple[str, AbstractContextManager[Any]]] = []
        self.unit: AbstractContextManager[Connection] | None = None
        self.cursor: Any = None
        self._twophase: TwoPhaseTransaction | None = None

    def _listener(self, name: str) -> Callable[..., None]:
        def listen(connection: Any, *_: Any) -> None:
            if name == "connect":
                connection.add_notice_handler(self._hear)
            statement = self.listening.get(name)
            if statement and connection is not None:  # none is checked in where it was invalidated
                cursor = connection.cursor()
                cursor.execute(statement)
                cursor.close()

        return listen

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.sqlstate != KILLED:  # whoever was sent again has heard of its first end
            self.notices.append(notice.message_primary)

    @contextmanager
    def _plain_unit(self) -> Iterator[Connection]:
        with self.engine.connect() as conn:
            driver: Any = conn.connection.driver_connection
            self.wait(driver.commit())  # LISTENERS_COMMIT
            self._clean(driver)
            with conn.begin():
                yield conn
        self._clean(driver)

    def _clean(self, driver: Any) -> None:
        if driver.closed:
            return
        self.wait(driver.rollback())
        for name in SETTINGS:
            self.set(name, name == "autocommit" or None, driver)
        self.wait(driver.execute("RESET ALL"))
        self.set("autocommit", False, driver)

    # What verbs ask of it.

    @property
    def here(self) -> Connection:
        assert self.conn is not None
        return self.conn

    @property
    def is_open(self) -> bool:
        return self.conn is not None

    @property
    def driver(self) -> Any:
        return self.here.connection.driver_connection

    @property
    def in_pipeline(self) -> bool:
        return any(name == "pipeline()" for name, _ in self.blocks)

    def drain(self) -> None:
        """Have all results of an open pipeline come in: what is met where is chance otherwise."""
        pipeline = self.driver._pipeline
        if pipeline is not None:
            self.wait(self.driver.wait(pipeline._fetch_gen(flush=True)))

    def set(self, name: str, value: Any, driver: Any = None) -> None:
        if self.is_async:
            await_(getattr(driver or self.driver, f"set_{name}")(value))
        else:
            setattr(driver or self.driver, name, value)

    def gid(self, whose: str) -> str:
        """A name for a prepared transaction, of which a server has one set for all databases."""
        return f"{self.name}_{whose}"

    def of_its_own(self, found: list[Any]) -> list[str]:
        """Which of the prepared transactions are this side's."""
        return sorted(str(xid).removeprefix(self.name) for xid in found if str(xid).startswith(self.name))

    def begin_twophase(self) -> None:
        self._twophase = self.here.begin_twophase(self.gid("sqlalchemy"))

    def prepare(self) -> None:
        if self._twophase is not None:
            self._twophase.prepare()

    # What a program does.

    def open(self, how: str | None) -> Observed:
        """Check a connection out: for an isolation level, or with ``"unit"`` in a transaction of its own."""
        if how == "unit":
            self.unit = self._make_unit()
            self.conn = self.unit.__enter__()
        else:
            self.conn = self.engine.connect()
            if how is not None:
                return self.observe(lambda side: side.here.execution_options(isolation_level=how).closed)
        return self.observe(lambda side: side.here.closed)

    def close(self) -> Observed:
        observed = self.observe(Side._close)
        self._forget()
        return observed

    def _close(self, error: BaseException | None = None) -> None:
        if self.unit is None:
            self.here.close()
        else:
            self.unit.__exit__(*told(error))

    def begin_nested(self) -> Observed:
        return self.observe(lambda side: side.savepoints.append(side.here.begin_nested()))

    def end_nested(self, how: str) -> Observed:
        return self.observe(lambda side: getattr(side.savepoints.pop(), how)())

    def end(self, how: str) -> Observed:
        self.savepoints = []
        return self.observe(lambda side: getattr(side.here, how)())

    def begin_block(self, name: str) -> Observed:
        def begin(side: Side) -> None:
            block = BLOCKS[name](side)
            entered = side.enter(block)
            side.blocks.append((name, block))
            if name == "cursor(named)":
                self.cursor = entered
                self.wait(entered.execute("SELECT generate_series(1, 5)"))

        return self.observe(begin)

    def end_block(self, how: str) -> Observed:
        error = EXCEPTIONS[how]

        def end(side: Side) -> bool:
            _, block = side.blocks.pop()
            return side.leave(block, None if error is None else error())

        return self.observe(end)

    def ring(self, statement: Verb) -> Observed:
        """What comes of ``statement``, which takes long, when the caller's alarm rings.

        If it rang: that exception's type, those of others that came up while it left all blocks, and whether the
        connection is closed, or else at the end of its answers. If not: what came instead.
        """
        driver = self.driver

        def timed() -> Any:
            if self.is_async:
                return await_(asyncio.wait_for(greenlet_spawn(statement, self), ALARM_S))
            with alarm(ALARM_S, TooSlowError):
                return statement(self)

        try:
            timed()
        except (TooSlowError, TimeoutError) as error:
            rang = error
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
            return (type(error).__name__,)
        else:
            return ("gave",)
        usable = driver.closed or driver.pgconn.transaction_status != STATUS.ACTIVE
        others: list[str] = []
        leaves: list[Callable[[BaseException], object]] = [
            functools.partial(self.leave, block) for _, block in reversed(self.blocks)
        ]
        for leave in (*leaves, self._close):
            try:
                leave(rang)
            except Exception as error:  # noqa: BLE001 - likewise
                others += [] if error is rang else [type(error).__name__]
        self._forget()
        return type(rang).__name__, others, usable

    def observe(self, work: Verb) -> Observed:
        """What ``work`` gives or raises, and the state in which it leaves the connection."""
        pipelined = self.in_pipeline
        self.notices.clear()
        try:
            came: Observed = ("gave", work(self))
            if pipelined:
                self.drain()
        except exc.DBAPIError as error:
            came = _driver_error(error.orig)
            if not pipelined:  # where it is met there, and by whom, is chance
                statement = re.sub(r"savepoint_\d+", "savepoint", error.statement or "")
                came = (type(error).__name__, *came, statement, error.params, error.connection_invalidated)
        except psycopg.Error as error:
            came = _driver_error(error)
        except Exception as error:  # noqa: BLE001 - SQLAlchemy's own, and a block's
            came = (type(error).__name__,)
        if pipelined:
            with contextlib.suppress(psycopg.Error):
                self.drain()
        return (*came, *self._state(self.here), *self.notices)

    def _state(self, conn: Connection) -> Observed:
        if conn.closed:
            return ("closed",)
        return (
            conn.in_transaction(),
            conn.in_nested_transaction(),
            conn.invalidated,
            [savepoint.is_active for savepoint in self.savepoints],
            not conn.invalidated and self.failed,
        )

    @property
    def failed(self) -> bool:
        """Whether the server would refuse all but a rollback."""
        if hasattr(self.driver, "failed"):
            return bool(self.driver.failed)
        return bool(self.driver.info.transaction_status is STATUS.INERROR)


def _driver_error(error: BaseException | None) -> Observed:
    return type(error).__name__, getattr(error, "sqlstate", None)


# The differences to the stock dialect that docs/reference/wire.md lists, by its words; each is looked for where it is.
SWALLOWED = "When an error was swallowed inside the block, the server would answer COMMIT with a rollback."
SAVEPOINT = "`driver.transaction()` inside a unit of work is a savepoint, even as the first thing in it"
AUTOCOMMIT = "Autocommit is refused: by `isolation=`, and with the first statement where the driver's was set."
LISTENERS_COMMIT = "What a pool's listener (`connect`, `checkout`, `checkin`) has left open is committed ahead of it"
HALF_WAY = "After an exception that was not psycopg's (an alarm's, a notify handler's), stock psycopg goes on"
GONE = "A cursor that has gone with its transaction, or with a savepoint, is closed without an error."
DELIBERATE = (SWALLOWED, SAVEPOINT, AUTOCOMMIT, LISTENERS_COMMIT, HALF_WAY, GONE)

OF_BLOCKS = ("OutOfOrderTransactionNesting", "ProgrammingError")
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT")
LISTENERS = {
    f"on {name}, {what}": (name, statement)
    for name in ("connect", "checkout", "checkin")
    for what, statement in {
        "a question": "SELECT 1",
        "a row": "INSERT INTO marks SELECT coalesce(max(n), 100) + 1 FROM marks",
    }.items()
    if (name, what) != ("connect", "a row")  # each side connects when it has to
}
ALARMS: dict[str, Callable[[Side], Any]] = {
    "alarm": lambda side: side.here.execute(text(SLEEP)),
    "alarm in the driver": lambda side: side.wait(side.driver.execute(SLEEP)),
    "alarm in the driver's executemany": lambda side: side.wait(side.driver.cursor().executemany(SLEEP, [[]])),
    "alarm in the driver's stream": lambda side: side.take(side.driver.cursor().stream(SLEEP), None),
}
ENDINGS = {"release": "commit", "undo": "rollback"}


class Twins:
    """The two in step. Raises AssertionError where they differ.

    A dead connection is one more difference: this dialect sends a first flight again. So where it may, the stock
    dialect is given a fresh connection, and is then to show the same.
    """

    def __init__(self, ours: Side, stock: Side) -> None:
        self.ours, self.stock = ours, stock
        self._sent: bool | None = False  # something was sent over the connection in hand; None: who knows
        self._how: str | None = None
        self._spoilt = False  # something has failed on the open pipeline

    @property
    def is_open(self) -> bool:
        return self.ours.is_open

    def both(self, work: Callable[[Side], Observed]) -> Observed:
        ours, stock = work(self.ours), work(self.stock)
        assert ours == stock, (ours, stock)
        return ours

    def step(self, name: str) -> None:
        """Do what is called ``name``; nothing where it has no sense, or where what comes of it would be chance."""
        what, _, which = name.partition(" ")
        if name in LISTENERS:
            for side in (self.ours, self.stock):
                side.listening.update([LISTENERS[name]])
        elif what == "kill":
            if self._may_kill():
                self.kill()
        elif not self.is_open:
            self._without_connection(name, what, which)
        elif what not in {"open", "dispose"} and (not self.ours.in_pipeline or self._is_fit_for_pipelines(name)):
            self._on_connection(name, what, which)

    def _without_connection(self, name: str, what: str, which: str) -> None:
        if what == "dispose":
            self.ours.engine.dispose()
            self.stock.engine.dispose()
        elif what == "open":
            self.open(which or None)
        else:
            self.open(None)
            self._on_connection(name, what, which)

    def _on_connection(self, name: str, what: str, which: str) -> None:  # noqa: C901, PLR0912 - a table of what there is
        match what:
            case _ if name in WORK:
                self.run(name)
            case "close":
                self.close()
            case "begin":
                self.both(lambda side: side.observe(lambda one: one.here.begin() and None))
            case "begin_nested":
                self.both(Side.begin_nested)
            case "release" | "undo":
                if self.ours.savepoints:
                    self.both(lambda side: side.end_nested(ENDINGS[what]))
            case "commit" | "rollback":
                self._spoilt = False
                self.both(lambda side: side.end(what))
            case "enter":
                if which.startswith("transaction"):
                    self._begin_stock()
                self._blocks_change(lambda side: side.begin_block(which))
            case "leave":
                if self.ours.blocks:
                    self._leave(which)
            case "fetch":
                if self.ours.cursor is not None:
                    self.both(lambda side: side.observe(lambda one: list(one.wait(one.cursor.fetchmany(2)))))
            case "alarm":
                if not self.ours.here.invalidated:
                    self.ring(ALARMS[name])
            case "autocommit" if self._how == "unit" and which == "= True":
                pass  # AUTOCOMMIT
            case _:
                if which == "type" or what == "type":
                    self._begin_stock()
                self._unclear()
                self._note(self.both(lambda side: side.observe(VERBS[name])))

    def _begin_stock(self) -> None:
        """What the driver begins in a unit is a savepoint there: SAVEPOINT."""
        side = self.stock
        if self._how == "unit" and not side.in_pipeline and not side.here.invalidated:
            with contextlib.suppress(psycopg.Error):
                side.wait(side.driver.execute(""))

    def _is_fit_for_pipelines(self, name: str) -> bool:
        if name.startswith("leave") or name in {"rollback", "rollback()"}:
            return True
        return not self._spoilt and name.removeprefix("enter ") in PIPELINED

    def _blocks_change(self, work: Callable[[Side], Observed]) -> None:
        self._unclear()
        self.both(work)
        self._spoilt = self._spoilt and self.ours.in_pipeline

    def _leave(self, how: str) -> None:
        self._unclear()
        ours, stock = self.ours.end_block(how), self.stock.end_block(how)
        if stock[0] == "InvalidCursorName" != ours[0]:  # GONE
            ours = self.ours.observe(lambda side: side.wait(side.driver.execute("CLOSE gone")))
            self.ours.cursor = self.stock.cursor = None  # which is not closed there
        assert ours == stock, (ours, stock)
        self._spoilt = self._spoilt and self.ours.in_pipeline

    def _note(self, observed: Observed) -> None:
        self._spoilt = self.ours.in_pipeline and observed[0] != "gave"

    def _unclear(self) -> None:
        self._sent = self._sent or None

    def open(self, how: str | None) -> None:
        if how == "unit" and "checkin" in self.ours.listening:
            return  # whether what it leaves open is the unit's is not for here
        self._how, self._sent = how, None if self.ours.listening else False
        self.both(lambda side: side.open(how))

    def run(self, name: str) -> None:
        work, pipelined = WORK[name], self.ours.in_pipeline
        # SQLAlchemy looks for a result at once, and whether a pipeline has it by then is chance.
        self._note(self.both(lambda side: side.observe(lambda one: (work(one.here), None)[pipelined])))
        self._sent = True

    def close(self) -> None:
        while self.ours.blocks:
            self._leave("")
        stock = self.stock.here
        swallowed = self._how == "unit" and not stock.closed and not stock.invalidated and self.stock.failed
        ends = self.ours.close(), self.stock.close()
        if not (swallowed and (ends[0][0], ends[1][0]) == ("PendingRollbackError", "gave")):  # SWALLOWED
            assert ends[0] == ends[1], ends

    def ring(self, statement: Verb) -> None:
        """An alarm rings. What comes of it and is left of a stock connection is luck; here it is that exception."""
        ours, stock = self.ours.ring(statement), self.stock.ring(statement)
        if self.ours.is_open:
            assert ours == stock, (ours, stock)
        else:
            _, others, usable = ours
            # Of blocks whose transaction a text has ended, psycopg complains on both sides.
            complaints = OF_BLOCKS if stock[1:2] and OF_BLOCKS[0] in stock[1] else ()
            assert ([other for other in others if other not in complaints], usable) == ([], True), ours  # HALF_WAY
            if self.stock.is_open:
                self.stock.close()
            self.stock.engine.dispose()
            self.stock.kill()
            if {"connect", "checkin"} & set(self.ours.listening):
                self.ours.engine.dispose()  # as it shows on a fresh connection alone, or is left open on a kept one
            self._spoilt = False

    def _may_kill(self) -> bool:
        if not self.is_open:
            return not self.ours.listening
        if self.ours.in_pipeline or self.ours.here.invalidated:
            return False
        # Where it is replaced without having been used, the stock one is checked out again, and a listener told.
        return self._sent or (self._sent is False and not self.ours.listening)

    def kill(self, then: str = "select") -> None:
        """End both sessions from the server's side, and see what the statement ``then`` meets."""
        self.ours.kill()
        self.stock.kill()
        if not self.is_open:
            self.stock.engine.dispose()
            self.open(None)
        elif not self._sent and self._how != "AUTOCOMMIT":
            self._renew_stock()
        self.run(then)

    def _renew_stock(self) -> None:
        conn, depth = self.stock.here, len(self.stock.savepoints)
        conn.invalidate()
        begun = conn.in_transaction() and self._how != "unit"
        self.stock.close()
        self.stock.open(self._how)
        if begun:
            self.stock.here.begin()
        for _ in range(depth):
            self.stock.begin_nested()

    def finish(self) -> None:
        if self.is_open:
            self.close()


def play(twins: Twins, program: list[str]) -> None:
    """Each step on both, and the rows at the end. Raises AssertionError where they differ."""
    with alarm(HUNG_S, HungError):
        for name in program:
            twins.step(name)
        twins.finish()
