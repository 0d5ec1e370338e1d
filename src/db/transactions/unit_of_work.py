"""One unit of work: a transaction that the deadline bounds, from its prologue to what became of its COMMIT.

What ``begin``, ``read`` and ``session`` have in common, in this order: the tenant, the time that is left, a connection,
the prologue (``UnitOfWork.__enter__``), the block, COMMIT or ROLLBACK, and the name of what went wrong (``__exit__``).
"""

from __future__ import annotations

import asyncio  # SQLAlchemy has loaded it
import functools
import math
import sys
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar, get_args

from sqlalchemy import exc

from db.environment import handler_decorator
from db.errors import DOCUMENTATION, ConfigurationError, DbError, OutcomeUnknownError, claim, sqlstate
from db.pool.engine_options import level_meant
from db.telemetry.holders import place_of
from db.telemetry.log import warn_of_leftovers
from db.timing.deadline import usable_s
from db.timing.invocation import NONE, current_invocation
from db.timing.waiting import on_loop
from db.wire.commit_outcome import Unit, work_for
from db.wire.search_path import NO_FUNCTION, PROLOGUE_FUNCTION, no_prologue_function
from db.wire.session_leftovers import SessionLeftError

from .blocks import Block, called, warn_of_unused, with_it
from .callables import require_plain
from .driver import is_failed, prepare
from .logins import look_at_login
from .open_units import begin_inside
from .prologue import Prologue, prologues_of
from .remedies import OUTSIDE_OF_A_TRANSACTION, add_remedy, note_disposal
from .tenant_scope import tenant_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from sqlalchemy import Connection, RootTransaction

    from db.environment.process import Holder
    from db.environment.runtime import Runtime
    from db.pool.connect_arguments import Role


P = ParamSpec("P")
T = TypeVar("T")
Isolation = Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


_SWALLOWED = (
    "the transaction had failed: an error inside the block was caught, and the server would have answered COMMIT with "
    "a rollback; catch errors around the block, or around a begin_nested() inside of it"
)

_UNKNOWN = (
    "while the transaction committed, so its outcome is unknown: it is committed as a whole, or not at all. Do not "
    "repeat it blindly: look whether what it writes is there. db.once(key).run(fn) does so by itself, and commits "
    f"exactly once ({DOCUMENTATION}run/errors/#outcomeunknownerror)"
)


class UnitOfWork(Block):
    """The block of ``begin`` and of ``read``: from the tenant to what became of COMMIT.

    It is entered once. As a decorator, like the blocks of contextlib, it gives each call of the function a unit.
    """

    __slots__ = (
        "_conn",
        "_disposals",
        "_fresh",
        "_invocation",
        "_isolation",
        "_now",
        "_read_only",
        "_single",
        "_tenant",
        "_transaction",
        "_unit",
        "call_name",
        "holder",
    )

    def __init__(
        self,
        holder: Holder,
        call_name: str,
        tenant: str | None,
        *,
        isolation: Isolation | None = None,
        read_only: bool = False,
        single: bool = False,
        fresh: bool = True,
    ) -> None:
        """With ``single`` each statement is a transaction of its own; with ``fresh`` no reader is asked.

        Where the engines have a level, there is a BEGIN to say it, and so one transaction for all of the block.
        """
        self.holder, self.call_name = holder, call_name
        self._tenant, self._isolation = tenant, isolation
        self._read_only, self._single, self._fresh = read_only, single, fresh
        self._unit: Unit | None = None
        self._conn: Connection | None = None
        self._transaction: RootTransaction | None = None
        self.__class__ = _Unused  # it has no state of its own

    def __enter__(self) -> Connection:
        if self.__class__ is not _Unused:
            raise RuntimeError(f"{called(self)} gives a block that is entered once: call it again for another")
        self.__class__ = _Entered  # type: ignore[assignment]  # likewise
        try:
            # Whose work it is, and whether there is time for it.
            now = self._now = self.holder.current()
            settings = now.settings
            invocation = self._invocation = current_invocation()
            if self._isolation is not None:
                _require_level(self._isolation)
            level = self._isolation or now.isolation
            if handler_decorator.may_be_forgotten:
                handler_decorator.look_for_forgotten()
            tenant = tenant_for(self._tenant, required=settings.tenant_required)
            role: Role = "writer" if self._fresh or self.holder in invocation.wrote else "reader"
            if settings.engine_kind.lacks:
                self._require(now, role, tenant=tenant, level=level)
            engine = now.engine(role, asynchronous=on_loop())
            if invocation.deadline is not None:
                # Raises DeadlineError where nothing could be sent anyway.
                reserve_s = settings.deadline_reserve_s
                usable_s(invocation.deadline, now=now.clock(), reserve_s=reserve_s, at_most_s=math.inf)

            # A connection, if those around it have left one.
            self._disposals = now.disposals
            opened_at = place_of(sys._getframe())  # noqa: SLF001 - there is no other way to a frame
            unit = self._unit = Unit(engine, read_only=self._read_only, place=opened_at)
            begin_inside(unit)
            conn = self._conn = engine.connect()
            checkout = conn.connection
            work_for(unit, checkout)
            if tenant is not None:
                look_at_login(conn)

            # What is said behind BEGIN. It leaves with the first statement.
            route = now.reader_route
            prologue = Prologue(
                prologues_of(now),
                tenant,
                invocation,
                server_version=conn.dialect.server_version_info or (),
                reader=route if role == "reader" and route.asks_for_lag else None,
            )
            pooled = settings.proxy != "none"
            prepare(checkout, prologue, unit, isolation=level, read_only=self._read_only, pooled=pooled)

            # Entered, as in a `with`, SQLAlchemy refuses what would follow an early commit() without prologue.
            transaction = self._transaction = conn.begin()
            transaction.__enter__()
            if self._single and level is None and unit.connection is not None:
                # Not before: what a listener to "begin" says is for all of the block, and opens a transaction.
                unit.connection.single_reads = True
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return conn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__class__ = UnitOfWork
        unit = self._unit
        try:
            try:
                self._end_transaction(kind, error, traceback)
            finally:
                self._give_back()
        except BaseException as later:
            self._name(later)
            raise
        else:
            if error is not None:
                self._name(error)
        finally:
            if unit is not None:
                unit.open = False
                if (unit.committed or unit.outcome_unknown) and self._invocation is not NONE:
                    self._invocation.wrote.add(self.holder)

    def _end_transaction(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """COMMIT; or ROLLBACK where the block raised ``error``, or was there to read."""
        unit, conn, transaction = self._unit, self._conn, self._transaction
        if unit is None or conn is None or transaction is None:
            return
        try:
            if error is not None:
                add_remedy(error, in_transaction=transaction.is_active)
                roll_back(transaction)
            elif self._read_only:
                roll_back(transaction)
            else:
                _refuse_swallowed_failure(conn, transaction, unit)
            unit.block_ended = unit.block_ended or error is None  # of what left with its COMMIT, that has said so
        except BaseException as refusal:
            try:
                roll_back(transaction)
            finally:
                transaction.__exit__(type(refusal), refusal, refusal.__traceback__)
            raise
        transaction.__exit__(kind, error, traceback)

    def _give_back(self) -> None:
        """The connection, with nothing of what held for the unit alone; a session on which it left more is not kept."""
        unit, conn = self._unit, self._conn
        if unit is None or conn is None:
            return
        try:
            if unit.connection is not None:
                unit.begun = unit.connection.begun  # it is the next one's to count from here on
                unit.connection.leave()
            if unit.leaves and not (conn.closed or conn.invalidated):
                database, dialect = self.holder.database, conn.dialect.name
                warn_of_leftovers(unit.leaves, by="a unit of work", database=database, dialect=dialect)
                conn.invalidate(SessionLeftError())
        finally:
            conn.close()

    def _name(self, error: BaseException) -> None:
        """Say of ``error`` what is known here, or raise what says it in its place."""
        told = None
        if self._unit is not None:
            if self._now.disposals != self._disposals:
                note_disposal(error)
            told = _told_apart(error, self._unit, self._now)
        claim(told or error, database=self.holder.database, prefix=self.holder.prefix)
        if told is not None:
            raise told from error

    def _require(self, now: Runtime, role: Role, *, tenant: str | None, level: str | None) -> None:
        """Raise ConfigurationError for what the engine lacks."""
        from .refusals import require_unit

        require_unit(now, role, call=self.call_name, tenant=tenant, read_only=self._read_only, isolation=level)

    def __call__(self, fn: Callable[P, T]) -> Callable[P, T]:
        self.__class__ = UnitOfWork  # as a decorator, by its copies
        require_plain(fn, call=called(self))

        @functools.wraps(fn)
        def inside(*args: P.args, **kwargs: P.kwargs) -> T:
            with UnitOfWork(
                self.holder,
                self.call_name,
                self._tenant,
                isolation=self._isolation,
                read_only=self._read_only,
                single=self._single,
                fresh=self._fresh,
            ):
                return fn(*args, **kwargs)

        return inside


class _Unused(UnitOfWork):
    """A unit whose block nobody has entered yet."""

    __slots__ = ()

    def __del__(self) -> None:
        warn_of_unused(called(self), with_it(self))


class _Entered(UnitOfWork):
    """A unit whose block has not ended.

    Nobody may come to end it: a signal's handler can raise between its ``__enter__`` and the block. As contextlib's
    do, it ends with the last who holds it.
    """

    __slots__ = ()

    def __del__(self) -> None:
        self.__exit__(GeneratorExit, GeneratorExit(), None)


def _require_level(isolation: str) -> None:
    """Raise ValueError for what is no level of a transaction: AUTOCOMMIT is one to SQLAlchemy, and would be none."""
    if isolation not in get_args(Isolation):
        if meant := level_meant(isolation):
            raise ValueError(f"isolation is {isolation!r}: write {meant!r}")
        raise ValueError(
            f"isolation is {isolation!r}, and not one of {', '.join(get_args(Isolation))}; what cannot run in a "
            f"transaction goes over {OUTSIDE_OF_A_TRANSACTION}"
        )


def _refuse_swallowed_failure(conn: Connection, transaction: RootTransaction, unit: Unit) -> None:
    """Raise PendingRollbackError where a COMMIT would seem to succeed, and commit nothing."""
    if not transaction.is_active:
        return
    failed = unit.connection.failed if unit.connection is not None else None
    if is_failed(conn) if failed is None else failed:
        raise exc.PendingRollbackError(_SWALLOWED)


def roll_back(transaction: RootTransaction) -> None:
    """Undo the transaction. A connection that is lost meanwhile has undone it too, and is no reason to fail."""
    try:
        if transaction.is_active:
            transaction.rollback()
    except exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise


def _told_apart(error: BaseException, unit: Unit, now: Runtime) -> DbError | None:
    """What is raised in place of ``error``, where the driver has no name of its own for what it is.

    Whatever came in place of the answer to a COMMIT is OutcomeUnknownError, whoever sent the COMMIT; or behind the
    answer, where the block is over: whoever sees another error takes the work for undone. The prologue's function that
    no migration has made is ConfigurationError.
    """
    unknown = unit.outcome_unknown or (unit.committed and unit.block_ended)
    if unknown and not isinstance(error, GeneratorExit | SystemExit):
        return OutcomeUnknownError(f"{_what_came(error)} {_UNKNOWN}")
    if now.settings.proxy == "rds-proxy" and isinstance(error, exc.DBAPIError) and _is_of_prologue(error, unit):
        return ConfigurationError([no_prologue_function(now.settings.schema)])
    return None


def _is_of_prologue(error: exc.DBAPIError, unit: Unit) -> bool:
    """Whether the server has no such function for this login, or does not let it into the function's schema."""
    if sqlstate(error) not in NO_FUNCTION:
        return False
    # Of a schema the server does not say what was looked for in it. A flight that brings the prologue has no statement
    # of its own that failed, and where there are no flights, the prologue is a statement.
    opening_failed = unit.connection is not None and not unit.begun and unit.statement_failed
    return opening_failed or any(PROLOGUE_FUNCTION in text for text in (str(error.orig), error.statement or ""))


def _what_came(error: BaseException) -> str:
    match error:
        case asyncio.CancelledError():
            return "the task was cancelled"
        case exc.DBAPIError():
            return "the connection was lost"
    return f"{type(error).__name__} was raised"
