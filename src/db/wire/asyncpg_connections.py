"""asyncpg's connection while a unit of work holds it: what is sent is looked at, and BEGIN has the prologue behind it.

asyncpg tells nobody the state of a transaction, and SQLAlchemy's adapter keeps an account of its own: a COMMIT that was
sent as text is not in it, and what follows runs in the autocommit of the server, without tenant and limits. So the one
door that all statements go through, asyncpg's protocol, has a watch here: it knows each by its text, refuses what would
end the transaction behind the adapter's back, and writes down what became of COMMIT.

tests/contract/test_asyncpg_internals.py names what lies below the public interfaces of asyncpg and SQLAlchemy.
"""

from __future__ import annotations

import contextlib
import re
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection
from sqlalchemy.util import await_

from db.errors import CAME_IN_COMMIT, ConfigurationError, sqlstate

from .commit_outcome import is_refusal
from .search_path import NO_AUTOCOMMIT
from .session_leftovers import CLEANING
from .statement_kinds import SET_CONFIG, kind_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from .commit_outcome import Unit
    from .riders import Command
    from .search_path import PlainPrologue

# SET TRANSACTION READ ONLY, alone among them, may come after the prologue, which is a query to the server.
_FIRST_MODES = re.compile(r"\b(?:isolation|transaction_isolation|snapshot|deferrable|transaction_deferrable)\b")
_ENDS = (
    "a unit of work is ended by tx.commit(), tx.rollback() or the end of its block, and with asyncpg not by a text: "
    "what would follow it had neither tenant nor time limits"
)
_TOO_LATE = (
    "with asyncpg the prologue of a unit of work goes before its first statement, and the server takes this ahead of "
    "all queries only: say isolation= of db.aio.begin() or run(), or snapshot=True of read(); for the rest there is "
    "db.aio.engine()"
)
_NO_AUTOCOMMIT = (
    "a unit of work is a transaction of its own, and the driver's autocommit was set in it: what cannot run in a "
    'transaction goes over db.aio.engine().connect().execution_options(isolation_level="AUTOCOMMIT")'
)
_NOT_AT_REST = "the connection was not at rest when its transaction ended: connection closed"
# What stops the cleaning of a session behind a COMMIT that took place: cancellation, shutdown, no resources.
_AMID_CLEANING = ("53", "57", "58", "XX")


class Prologue(Protocol):
    """What a unit of work says behind BEGIN."""

    def __call__(self, alone: bool) -> Command: ...

    def tell(self, tenant: str | None) -> None: ...


class WatchedProtocol:
    """asyncpg's protocol, with a look at each statement that a unit of work sends. All else is passed on."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self.unit: Unit | None = None
        self.is_pooled = False  # the session is another client's in the next transaction
        self._ours = 0
        self._under_way = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    @property
    def is_at_rest(self) -> bool:
        """Whether no statement is under way, or being cancelled, and no transaction open."""
        inner = self._protocol
        return not (self._under_way or inner._is_cancelling() or inner.is_in_transaction())

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        """What is sent in the block begins or ends the transaction in the adapter's name, or is asyncpg's own."""
        self._ours += 1
        try:
            yield
        finally:
            self._ours -= 1

    # What sends a statement. Their arguments are asyncpg's.

    async def query(self, query: str, timeout: Any) -> Any:
        if self.unit is not None and self._ours and kind_of(query).ends:
            return await self._end(self.unit, query, timeout)
        return await self._watched(query, (), partial(self._protocol.query, query, timeout))

    async def prepare(self, stmt_name: Any, query: str, *args: Any, **kwargs: Any) -> Any:
        self._refuse(query)
        return await self._sent(partial(self._protocol.prepare, stmt_name, query, *args, **kwargs))

    async def bind_execute(self, state: Any, args: Any, *more: Any, **kwargs: Any) -> Any:
        return await self._watched(
            state.query, args, partial(self._protocol.bind_execute, state, args, *more, **kwargs)
        )

    async def bind_execute_many(self, state: Any, args: Any, *more: Any, **kwargs: Any) -> Any:
        # Of many rows of values it is not looked whether one says "for the session": it costs a connection if not.
        send = partial(self._protocol.bind_execute_many, state, args, *more, **kwargs)
        return await self._watched(state.query, (False,), send)

    async def bind(self, state: Any, args: Any, *more: Any, **kwargs: Any) -> Any:
        return await self._watched(state.query, args, partial(self._protocol.bind, state, args, *more, **kwargs))

    async def execute(self, state: Any, *more: Any, **kwargs: Any) -> Any:
        return await self._sent(partial(self._protocol.execute, state, *more, **kwargs))

    async def copy_in(self, copy_stmt: str, *more: Any, **kwargs: Any) -> Any:
        return await self._sent(partial(self._protocol.copy_in, copy_stmt, *more, **kwargs))

    async def copy_out(self, copy_stmt: str, *more: Any, **kwargs: Any) -> Any:
        return await self._sent(partial(self._protocol.copy_out, copy_stmt, *more, **kwargs))

    async def _watched(self, text: str, args: Any, send: Callable[[], Awaitable[Any]]) -> Any:
        self._refuse(text)
        if self.unit is not None and not self._ours:
            kind = kind_of(text)
            if kind.leaves is not None or (kind.leaves_if_false and any(value is False for value in args)):
                self.unit.leaves.add(kind.leaves or SET_CONFIG)
        return await self._sent(send)

    async def _sent(self, send: Callable[[], Awaitable[Any]]) -> Any:
        self._under_way += 1
        try:
            return await send()
        except BaseException:
            if self.unit is not None:
                self.unit.statement_failed = True
            raise
        finally:
            self._under_way -= 1

    def _refuse(self, text: str) -> None:
        """Raise InterfaceError for what the adapter would not notice, or the server refuse in its own words."""
        if self.unit is None or self._ours:
            return
        kind = kind_of(text)
        if kind.is_ordinary:
            return
        if kind.ends:
            raise asyncpg.InterfaceError(_ENDS)
        if kind.sets_modes and _FIRST_MODES.search(text.lower()):
            raise asyncpg.InterfaceError(_TOO_LATE)

    async def _end(self, unit: Unit, query: str, timeout: Any) -> Any:
        """Send the adapter's COMMIT or ROLLBACK; what is left on a pooler's session goes in the same flight."""
        commits = kind_of(query).commits
        cleans = self.is_pooled and bool(unit.leaves)
        if cleans:
            # The answer is that to the last of them. So where a transaction has failed, COMMIT is not to be reached.
            proof = ["SELECT 1"] if commits else []
            query = "; ".join([*proof, query.rstrip(";"), *(text.decode() for text in CLEANING)])
        send = partial(self._protocol.query, query, timeout)
        if not commits:
            return await self._sent(send)
        unit.outcome_unknown = True
        try:
            answer = await self._sent(send)
        except BaseException as error:
            unit.commit_failed(error, refused=self._is_refusal(error, cleans=cleans))
            raise
        unit.commit_answered(committed=cleans or answer == "COMMIT")
        return answer

    def _is_refusal(self, error: BaseException, *, cleans: bool) -> bool:
        if isinstance(error, asyncpg.InterfaceError):
            return True  # asyncpg's own, before it sends
        told = server_error(error)
        if cleans and (sqlstate(told) or "").startswith(_AMID_CLEANING):
            return False
        return is_refusal(told, lost=not self._protocol.is_connected())


def server_error(error: BaseException) -> BaseException:
    """The server's last words, where a lost connection had some."""
    cause = error.__cause__
    return (
        cause
        if isinstance(error, asyncpg.PostgresConnectionError) and isinstance(cause, asyncpg.PostgresError)
        else error
    )


class UnitConnection(asyncpg.Connection):  # type: ignore[misc] # asyncpg is not typed here
    """``asyncpg.Connection`` with a watch at its door."""

    def __init__(self, protocol: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(protocol, *args, **kwargs)
        self._protocol = self.door = WatchedProtocol(protocol)

    async def _introspect_types(self, typeoids: Any, timeout: Any) -> Any:
        # It switches JIT off for the session and on again.
        with self.door.ours():
            return await super()._introspect_types(typeoids, timeout)

    async def end_any(self, how: str) -> None:
        """End a transaction that the adapter knows nothing of, if there is one."""
        if not self.is_closed() and self.is_in_transaction():
            await self.execute(how)
        self._top_xact = None


class UnitAdapter(AsyncAdapt_asyncpg_connection):
    """SQLAlchemy's adapter, which says the prologue of the unit that it works for behind each BEGIN.

    ``begun`` counts the transactions that were opened for it.
    """

    _connection: Any
    prologue: Prologue | None = None
    # Behind the BEGIN of a transaction that is no unit of work's, as in ``deferred_begin``.
    plain_prologue: PlainPrologue | None = None
    unit: Unit | None = None
    begun = 0
    single_reads = False  # there are no flights, so a read is a transaction
    failed = None  # not known unasked
    # It was left in the middle of something, and is of no use to anybody.
    abandoned = False

    def serve(self, prologue: Prologue, unit: Unit, *, isolation: str | None, read_only: bool, pooled: bool) -> None:
        """Work for ``unit`` until ``leave()``. Nothing of what was set or left open before holds for it."""
        self._set_modes(isolation, read_only=read_only)
        self._work_for(prologue, unit, pooled=pooled)
        self.begun = 0

    def leave(self) -> None:
        """The unit has ended, and with it what held for it."""
        self.single_reads = False
        self._set_modes(None, read_only=False)
        self._work_for(None, None, pooled=False)

    def parked(self) -> None:
        """A pool keeps the connection: nothing of a unit's is to be met on it."""
        if self.unit is not None:
            self.leave()  # what a signal's handler raised came in its way

    def take_over(self, stale: UnitAdapter) -> None:
        """Stand in for ``stale``, which died before it did anything."""
        self.isolation_level, self.readonly = stale.isolation_level, stale.readonly
        self._work_for(stale.prologue, stale.unit, pooled=stale._connection.door.is_pooled)

    def _set_modes(self, isolation: str | None, *, read_only: bool) -> None:
        # Not by the adapter's method, which rolls back first.
        self.isolation_level = self._isolation_setting = isolation and isolation.lower().replace(" ", "_")
        self.readonly, self.deferrable = read_only, False

    def _work_for(self, prologue: Prologue | None, unit: Unit | None, *, pooled: bool) -> None:
        self.prologue, self.unit = prologue, unit
        self._connection.door.unit, self._connection.door.is_pooled = unit, pooled
        if unit is not None:
            unit.connection = self

    def open(self) -> None:
        """Send BEGIN and the prologue; a transaction that a listener of the pool's left open ends ahead of them."""
        await_(self._open())

    async def _open(self) -> None:
        async with self._execute_mutex:
            door = self._connection.door
            unit, door.unit = door.unit, None  # what a listener left open is not the unit's
            try:
                await self._end_any("COMMIT")
            finally:
                door.unit = unit
            self._transaction = None
            await self._start_transaction()

    async def _end_any(self, how: str) -> None:
        try:
            with self._connection.door.ours():
                await self._connection.end_any(how)
        except Exception as error:  # noqa: BLE001 - translated, and raised
            self._handle_exception(error)

    # What SQLAlchemy calls.

    async def _start_transaction(self) -> None:
        if self.prologue is None:
            await self._start_plain_transaction()
            return
        if self.autocommit:
            raise self.dbapi.ProgrammingError(_NO_AUTOCOMMIT)
        with self._connection.door.ours():
            await super()._start_transaction()  # type: ignore[no-untyped-call]
            text, values = self.prologue(alone=False)
            try:
                await self._connection.fetch(text.decode(), *map(_text, values or ()))
            except BaseException as error:
                # Where the server refused it, the transaction has failed. Else nothing may follow without it, either.
                self.abandoned = not isinstance(error, asyncpg.PostgresError)
                if isinstance(error, Exception):
                    self._handle_exception(error)
                raise
        self.begun += 1

    async def _start_plain_transaction(self) -> None:
        plain = self.plain_prologue
        if plain is not None and self.autocommit:
            raise ConfigurationError([NO_AUTOCOMMIT])
        await super()._start_transaction()  # type: ignore[no-untyped-call]
        if plain is not None:
            try:
                await self._connection.execute(plain.text.decode())
            except Exception as error:  # noqa: BLE001 - translated, and raised
                plain.require_function(error)
                self._handle_exception(error)

    def commit(self) -> None:
        with self._connection.door.ours():
            super().commit()  # type: ignore[no-untyped-call]

    def rollback(self) -> None:
        """Undo the transaction, whoever began it. A connection that is not at rest then is not to be used again."""
        try:
            with self._connection.door.ours():
                super().rollback()  # type: ignore[no-untyped-call]
            if not self._connection.is_closed() and self._connection.is_in_transaction():
                await_(self._end_any("ROLLBACK"))
        except self.dbapi.Error:
            self.abandoned = True
            raise
        if not (self._connection.is_closed() or self._connection.door.is_at_rest):
            self.abandoned = True
            raise self.dbapi.OperationalError(_NOT_AT_REST)

    def _handle_exception(self, error: Exception) -> NoReturn:
        """By the one name that psycopg has for a lost connection, and with the server's last words."""
        lost = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)
        if self._connection.is_closed() and isinstance(error, lost):
            self._transaction = None
            told = self.dbapi.OperationalError(str(error), server_error(error))
        else:
            told = None
        try:
            if told is not None:
                raise told from error
            super()._handle_exception(error)
        except self.dbapi.Error as translated:
            if getattr(error, CAME_IN_COMMIT, False):
                setattr(translated, CAME_IN_COMMIT, True)
            raise


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
