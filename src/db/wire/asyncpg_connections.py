"""asyncpg's connection while a unit of work holds it: BEGIN has the prologue behind it, and what was left open ends.

What goes through it is watched one level below (``asyncpg_protocol``). Whether another one takes its place is decided
one level above (``asyncpg_replay``).
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_connection, AsyncAdapt_asyncpg_ss_cursor
from sqlalchemy.util import await_

from db.errors import CAME_IN_COMMIT, ConfigurationError

from .asyncpg_due import Opening
from .asyncpg_errors import as_in_psycopg, of_a_lost_connection
from .asyncpg_protocol import WatchedProtocol
from .search_path import NO_AUTOCOMMIT
from .session_leftovers import LEFT

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from .commit_outcome import Unit
    from .riders import Command
    from .search_path import PlainPrologue
    from .statement_kinds import Kind

# What the layer's connect arguments say of a socket, in libpq's words.
SOCKET_OPTIONS = {
    "keepalives": (socket.SOL_SOCKET, "SO_KEEPALIVE"),
    "keepalives_idle": (socket.IPPROTO_TCP, "TCP_KEEPIDLE"),
    "keepalives_interval": (socket.IPPROTO_TCP, "TCP_KEEPINTVL"),
    "keepalives_count": (socket.IPPROTO_TCP, "TCP_KEEPCNT"),
    "tcp_user_timeout": (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT"),
}
_NO_AUTOCOMMIT = (
    "a unit of work is a transaction of its own, and the driver's autocommit was set in it: what cannot run in a "
    'transaction goes over db.aio.engine().connect().execution_options(isolation_level="AUTOCOMMIT")'
)
_NOT_THIS_SERVER = "this server is not to be used now: connection closed"
_NOT_AT_REST = "the connection was not at rest when its transaction ended: connection closed"


class Prologue(Protocol):
    """What a unit of work says behind BEGIN. With ``listens``, the answer decides whether the server may be used."""

    listens: bool
    tenant: str | None

    def unheard(self) -> Sequence[Command]: ...

    def tell(self, tenant: str | None) -> None: ...

    def heard_rows(self, count: int) -> bool: ...


class UnitConnection(asyncpg.Connection):  # type: ignore[misc] # asyncpg is not typed here
    """``asyncpg.Connection`` with a watch at its door, that can be closed without its event loop."""

    def __init__(
        self, protocol: Any, transport: Any, loop: asyncio.AbstractEventLoop, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(protocol, transport, loop, *args, **kwargs)
        self._line = transport.get_extra_info("socket")
        self._protocol = self.door = WatchedProtocol(protocol, self._line)
        self._home = loop

    @property
    def pools_notes(self) -> dict[Any, Any] | None:
        """What its pool knows of it, where one keeps it."""
        return self.door.pools_notes

    @pools_notes.setter
    def pools_notes(self, notes: dict[Any, Any] | None) -> None:
        self.door.pools_notes = notes

    async def _introspect_types(self, typeoids: Any, timeout: Any) -> Any:
        # It switches JIT off for the session and on again.
        with self.door.ours():
            return await super()._introspect_types(typeoids, timeout)

    async def end_any(self, how: str) -> None:
        """End a transaction that the adapter knows nothing of, if there is one."""
        if not self.is_closed() and self.is_in_transaction():
            await self.execute(how)
        self._top_xact = None

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it can be awaited on ``loop``."""
        return self._home is loop

    def is_quiet(self) -> bool:
        """Whether the socket is open and has nothing to say, as one that lives, or that died in silence. No trip."""
        return not self.is_closed() and self.door.is_quiet()

    def watch(self, params: Mapping[str, Any]) -> None:
        """Have the operating system give up a peer that went silent, as libpq would."""
        if self._line.family == socket.AF_UNIX:
            return
        for name, (level, option) in SOCKET_OPTIONS.items():
            if name in params and hasattr(socket, option):
                self._line.setsockopt(level, getattr(socket, option), int(params[name]))

    def hang_up(self) -> None:
        """Close at once, on whatever loop or on none: the server learns it now, not when the loop runs again."""
        with contextlib.suppress(OSError):  # it is not connected any more
            self._line.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.terminate()


class UnitStream(AsyncAdapt_asyncpg_ss_cursor):
    """SQLAlchemy's server-side cursor, whose errors amid the rows are asyncpg's own: these are translated as well."""

    def _buffer_rows(self) -> None:
        self._translated(super()._buffer_rows)

    def fetchmany(self, size: int | None = None) -> Any:
        return self._translated(super().fetchmany, size)

    def fetchall(self) -> Any:
        return self._translated(super().fetchall)

    def _translated(self, work: Callable[..., Any], *args: Any) -> Any:
        try:
            return work(*args)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            self._adapt_connection._handle_exception(error)


class UnitAdapter(AsyncAdapt_asyncpg_connection):
    """SQLAlchemy's adapter, which keeps BEGIN back, and says the prologue of the unit that it works for behind it.

    ``begun`` counts the transactions that were opened for it.
    """

    _connection: Any
    _ss_cursor_cls = UnitStream
    prologue: Prologue | None = None
    # Behind the BEGIN of a transaction that is no unit of work's, as in ``deferred_begin``.
    plain_prologue: PlainPrologue | None = None
    unit: Unit | None = None
    begun = 0
    single_reads = False  # there are no flights, so a read is a transaction

    def serve(
        self,
        prologue: Prologue,
        patience_s: Callable[[], float | None],
        unit: Unit,
        *,
        isolation: str | None,
        read_only: bool,
        pooled: bool,
    ) -> None:
        """Work for ``unit`` until ``leave()``. Nothing of what was set or left open before holds for it."""
        self._set_modes(isolation, read_only=read_only)
        self._work_for(prologue, patience_s, unit, pooled=pooled)
        self.begun = 0
        if self._connection.pools_notes is not None:
            self._connection.pools_notes.pop(LEFT, None)  # said by a listener to this checkout, as to every other

    def leave(self) -> None:
        """The unit has ended, and with it what held for it."""
        self._connection.door.due.clear()
        self.single_reads = False
        self._set_modes(None, read_only=False)
        self._work_for(None, None, None, pooled=False)

    def parked(self) -> None:
        """A pool keeps the connection: nothing of a unit's is to be met on it, and whoever has it next did nothing."""
        if self.unit is not None:
            self.leave()  # what a signal's handler raised came in its way
        self._connection.door.due.clear()
        self._connection.door.sent = self._connection.door.answered = 0

    def take_over(self, stale: UnitAdapter) -> None:
        """Stand in for ``stale``, which died before it did anything."""
        self.isolation_level, self._isolation_setting = stale.isolation_level, stale._isolation_setting
        self.readonly, self.deferrable = stale.readonly, stale.deferrable
        door = stale._connection.door
        self._connection.door.due.take_over(door.due)
        self._work_for(stale.prologue, door.patience_s, stale.unit, pooled=door.is_pooled)

    @property
    def has_sent(self) -> bool:
        """Whether its holder has sent anything over it that may have done something."""
        return bool(self._connection.door.sent)

    @property
    def failed(self) -> bool | None:
        """Whether the server refuses everything but a rollback; None where it has to be asked."""
        due = self._connection.door.due
        return True if due.never_began else None if due.is_failed else False

    @property
    def abandoned(self) -> bool:
        """Whether it was left in the middle of something, and is of no use to anybody."""
        return bool(self._connection.door.abandoned)

    @property
    def unproven(self) -> bool:
        """Whether nothing that its holder had run was answered."""
        return not self._connection.door.answered

    def ours(self) -> AbstractContextManager[None]:
        """What is sent in the block does nothing by itself."""
        ours: AbstractContextManager[None] = self._connection.door.ours()
        return ours

    def _set_modes(self, isolation: str | None, *, read_only: bool) -> None:
        # Not by the adapter's method, which rolls back first.
        self.isolation_level = self._isolation_setting = isolation and isolation.lower().replace(" ", "_")
        self.readonly, self.deferrable = read_only, False

    def _work_for(
        self,
        prologue: Prologue | None,
        patience_s: Callable[[], float | None] | None,
        unit: Unit | None,
        *,
        pooled: bool,
    ) -> None:
        self.prologue, self.unit = prologue, unit
        door = self._connection.door
        door.unit, door.patience_s, door.is_pooled = unit, patience_s, pooled
        if unit is not None:
            unit.connection = self

    def postpone(self, text: str, kind: Kind) -> bool:
        """Whether ``text`` goes with the next statement: a savepoint's, or SET TRANSACTION ahead of the first query."""
        return bool(not self.autocommit and await_(self._postpone(text, kind)))

    async def _postpone(self, text: str, kind: Kind) -> bool:
        if self._transaction is None:
            await self._begin()
        if not self._connection.is_in_transaction():
            return False  # a block of the driver's own has ended it: the refusal belongs to this command
        due = self._connection.door.due
        if kind.sets_modes:
            if self.unit is not None:
                self.unit.said_read_only |= kind.says_read_only
            says_more = self.prologue is not None or self.plain_prologue is not None
            if says_more and due.opening is not None and not due.riders.due:
                due.riders.add_mode(text.encode())
                return True
        waits: bool = due.riders.postpone(text, failed=due.is_failed)
        return waits

    def ride(self, command: Command) -> None:
        """Have ``command``, which gives no rows, go with the next statement, or with COMMIT."""
        text, values = command
        self._connection.door.due.riders.add(text, values or ())

    def open(self) -> None:
        """Begin a unit's transaction. One that a listener of the pool's left open ends ahead of it."""
        if self.prologue is not None:
            await_(self._open())

    def settle(self) -> None:
        """Send what is due now. From here on the connection is known to live."""
        await_(self._settle())

    def copy_in(self, table: str, schema: str | None, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
        """Load ``rows`` over COPY; gives how many. An error of their own is raised as it is."""
        return await_(self._copy_in(table, schema, columns, rows))

    async def _copy_in(
        self, table: str, schema: str | None, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> int:
        async with self._execute_mutex:
            try:
                tag: str = await self._connection.copy_records_to_table(
                    table, schema_name=schema, columns=columns, records=rows
                )
            except self.dbapi.Error:
                raise
            except Exception as error:  # noqa: BLE001 - translated, and raised
                self._handle_exception(error)
        return int(tag.rpartition(" ")[2])

    async def _begin(self) -> None:
        async with self._execute_mutex:
            await self._start_transaction()

    async def _settle(self) -> None:
        if self._transaction is None:
            await self._begin()
        async with self._execute_mutex:
            door = self._connection.door
            try:
                if door.due:
                    await door.settle()
            except Exception as error:  # noqa: BLE001 - translated, and raised
                self._handle_exception(error)
            door.answered += 1

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
            with self.ours():
                await self._connection.end_any(how)
        except Exception as error:  # noqa: BLE001 - translated, and raised
            self._handle_exception(error)

    # What SQLAlchemy calls.

    async def _start_transaction(self) -> None:
        if self.autocommit and self.prologue is not None:
            raise self.dbapi.ProgrammingError(_NO_AUTOCOMMIT)
        if self.autocommit and self.plain_prologue is not None:
            raise ConfigurationError([NO_AUTOCOMMIT])
        with self.ours(), self._connection.door.keeping_back(self._keep):
            await super()._start_transaction()  # type: ignore[no-untyped-call] # SQLAlchemy's

    def _keep(self, begin: str) -> Opening:
        return Opening(begin, says=self._says, opened=self._opened, failed=self._not_opened)

    def _says(self) -> Sequence[Command]:
        if self.prologue is not None:
            return self.prologue.unheard()
        return () if self.plain_prologue is None else [(self.plain_prologue.text, None)]

    def _opened(self, tag: str) -> None:
        self.begun += 1
        prologue = self.prologue
        if prologue is not None and prologue.listens and not prologue.heard_rows(int(tag.rsplit(maxsplit=1)[-1])):
            # Only reads have a prologue that listens, so it may be sent again elsewhere, as after a death.
            self._connection.terminate()
            raise asyncpg.ConnectionDoesNotExistError(_NOT_THIS_SERVER)

    def _not_opened(self, error: BaseException) -> None:
        # Where the server refused it, the transaction has failed. Else nothing may follow without it, either.
        if not isinstance(error, asyncpg.PostgresError):
            self._connection.door.abandoned = True
        if self.prologue is None and self.plain_prologue is not None and isinstance(error, Exception):
            self.plain_prologue.require_function(error)

    def commit(self) -> None:
        try:
            with self.ours():
                super().commit()  # type: ignore[no-untyped-call] # SQLAlchemy's
        except self.dbapi.OperationalError:
            if self.has_sent or not self._connection.is_closed():
                raise
            # There was nothing to commit.
            if self.unit is not None:
                self.unit.commit_answered(committed=False)
        finally:
            self._connection.door.due.clear()

    def rollback(self) -> None:
        """Undo the transaction, whoever began it. A connection that is not at rest then is not to be used again."""
        try:
            with self.ours():
                super().rollback()  # type: ignore[no-untyped-call] # SQLAlchemy's
            if not self._connection.is_closed() and self._connection.is_in_transaction():
                await_(self._end_any("ROLLBACK"))
        except self.dbapi.Error:
            if not self.has_sent and self._connection.is_closed():
                return  # there was nothing to undo
            self._connection.door.abandoned = True
            raise
        finally:
            self._connection.door.due.clear()
        if not (self._connection.is_closed() or self._connection.door.is_at_rest):
            self._connection.door.abandoned = True
            raise self.dbapi.OperationalError(_NOT_AT_REST)

    def _handle_exception(self, error: Exception) -> NoReturn:
        """By the names that psycopg has, and with the server's last words."""
        told = None
        if self._connection.is_closed() and (told := of_a_lost_connection(self.dbapi, error)):
            self._transaction = None
        else:
            try:
                super()._handle_exception(error)
            except self.dbapi.Error as translated:
                told = as_in_psycopg(self.dbapi, translated)
        if getattr(error, CAME_IN_COMMIT, False):
            setattr(told, CAME_IN_COMMIT, True)
        raise told from error
