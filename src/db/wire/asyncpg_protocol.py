"""asyncpg's protocol under a watch: what a unit of work sends is looked at, its COMMIT noted, its wait bounded.

asyncpg tells nobody the state of a transaction, and SQLAlchemy's adapter keeps an account of its own: a COMMIT that was
sent as text is not in it, and what follows runs in the autocommit of the server, without tenant and limits. So the one
door that all statements go through, asyncpg's protocol, has a watch here: it knows each by its text, refuses what would
end the transaction behind the adapter's back, and writes down what became of COMMIT. It counts what was sent and
answered, for whoever has to know whether anything was done, and gives up a server that is silent for too long.

tests/contract/test_asyncpg_internals.py names what lies below the public interfaces of asyncpg and SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import asyncpg

from db.errors import sqlstate

from .asyncpg_due import SEPARATOR, Due
from .asyncpg_errors import NoAnswerError, is_unsent, server_error
from .commit_outcome import Unit, is_refusal
from .pipeline import is_readable
from .session_leftovers import CHECKING, CLEANING, note_left
from .statement_kinds import SET_CONFIG, kind_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from socket import socket

    from .asyncpg_due import Opening


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
_NEVER_BEGAN = "the transaction was refused as it began: commands are ignored until its end"
_GONE = "the server closed the connection ahead of COMMIT"
_END_OF_STREAM = getattr(select, "POLLRDHUP", 0)  # Linux's; an error of the socket is told unasked
_NO_ANSWER = "no answer from the server within the time that was left: connection closed"
# What stops the cleaning of a session behind a COMMIT that took place: cancellation, shutdown, no resources.
_AMID_CLEANING = ("53", "57", "58", "XX")


class WatchedProtocol:
    """asyncpg's protocol, with a look at each statement that a unit of work sends. All else is passed on.

    ``sent`` and ``answered`` count the statements of whoever has the connection, and not what is ``ours``.
    ``patience_s`` gives the longest wait for an answer; beyond it the connection is closed. What is ``due`` goes ahead
    of the next statement that is not ``ours``. ``abandoned``: it was left in the middle of something, and is of no use
    to anybody.
    """

    def __init__(self, protocol: Any, line: socket) -> None:
        self._protocol = protocol
        self._line = line
        self.due = Due()
        self.abandoned = False
        self.unit: Unit | None = None
        self.is_pooled = False  # the session is another client's in the next transaction
        self.pools_notes: dict[Any, Any] | None = None  # as in ``serving``
        self.patience_s: Callable[[], float | None] | None = None
        self.sent = self.answered = 0
        self._ours = 0
        self._under_way = 0
        self._keep: Callable[[str], Opening] | None = None

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

    @contextlib.contextmanager
    def keeping_back(self, keep: Callable[[str], Opening]) -> Iterator[None]:
        """BEGIN that asyncpg sends in the block waits for the next statement. asyncpg's accounts are as if it had gone.

        ``keep`` makes of its text what is due.
        """
        self._keep = keep
        try:
            yield
        finally:
            self._keep = None

    def is_in_transaction(self) -> bool:
        """asyncpg's, as it would be, had all been sent that is due."""
        return self.due.opening is not None or bool(self._protocol.is_in_transaction())

    def is_quiet(self) -> bool:
        """Whether the socket is open and has nothing to say, as one that lives, or that died in silence. No trip."""
        return bool(self._protocol.is_connected()) and not is_readable(self._line.fileno())

    async def settle(self) -> None:
        """Send what is due, in one flight."""
        due = self.due
        opening, mends = due.opening, due.riders.mends
        try:
            text = SEPARATOR.join(due.take())
            with self.ours():
                tag = await self._sent(partial(self._protocol.query, text, None))
        except BaseException as error:
            if opening is not None:
                # Of a text that it cannot read the server runs nothing, BEGIN no more than the rest.
                due.never_began = not self._protocol.is_in_transaction()
                opening.failed(error)
            raise
        if mends:
            due.may_have_failed = False
        if opening is not None:
            opening.opened(tag)

    # What sends a statement. Their arguments are asyncpg's.

    async def query(self, query: str, timeout: Any) -> Any:
        if self._keep is not None:
            self.due.opening = self._keep(query)
            return "BEGIN"
        if self._ours and kind_of(query).ends:
            return await self._end(query, timeout)
        return await self._watched(query, (), partial(self._protocol.query, query, timeout))

    async def prepare(self, stmt_name: Any, query: str, *args: Any, **kwargs: Any) -> Any:
        self._refuse(query)
        # What has been read, and not run, is as good as not sent.
        return await self._sent(partial(self._protocol.prepare, stmt_name, query, *args, **kwargs), runs=False)

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
        kind = kind_of(text)
        if kind.leaves is not None or (kind.leaves_if_false and any(value is False for value in args)):
            self._note_left(kind.leaves or SET_CONFIG)
        if kind.commits and self.unit is None:
            return await self._commit(send)
        return await self._sent(send)

    async def _commit(self, send: Callable[[], Awaitable[Any]]) -> Any:
        """Outside of any unit: whoever gets an error in place of the answer is told so by that alone."""
        if self._has_ended():
            await self._hear_the_end(None)
        try:
            return await self._sent(send)
        except BaseException as error:
            Unit().commit_failed(error, refused=self._is_refusal(error, cleans=False))
            raise

    def _note_left(self, kind: str) -> None:
        if self._ours:
            return
        if self.unit is not None:
            self.unit.leaves.add(kind)
        else:
            note_left(self.pools_notes, kind)

    async def _sent(self, send: Callable[[], Awaitable[Any]], *, runs: bool = True) -> Any:
        is_theirs = not self._ours
        self.sent += is_theirs  # before all else: what is lost with BEGIN, and caught, must not be left out
        if is_theirs and self.due.never_began:
            raise asyncpg.InFailedSQLTransactionError(_NEVER_BEGAN)
        if is_theirs and self.due:
            await self.settle()
        self._under_way += 1
        try:
            with self._patience():
                answer = await send()
        except BaseException:
            self.due.may_have_failed = True
            if self.unit is not None:
                self.unit.statement_failed = True
            raise
        finally:
            self._under_way -= 1
        self.answered += is_theirs and runs
        return answer

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Close the connection where what is sent in the block has no answer in time. Raises NoAnswerError then."""
        limit_s = self.patience_s() if self.patience_s is not None else None
        if limit_s is None:
            yield
            return
        waiting = asyncio.get_running_loop().call_later(limit_s, self._hang_up)
        try:
            yield
        except asyncpg.PostgresConnectionError as error:
            if waiting.when() <= asyncio.get_running_loop().time():
                raise NoAnswerError(_NO_ANSWER) from error
            raise
        finally:
            waiting.cancel()

    def _hang_up(self) -> None:
        self._protocol.abort()  # whoever waits for an answer hears of it at once
        self._protocol.resume_writing()  # and who waits to send more

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

    async def _end(self, query: str, timeout: Any) -> Any:
        """Send the adapter's COMMIT or ROLLBACK; what is left on a pooler's session goes in the same flight."""
        unit, due, commits = self.unit, self.due, kind_of(query).commits
        if due.opening is not None or not commits:
            opened = due.opening is None
            due.clear()
            if not opened:
                return query  # nothing was sent that could end
        cleans = self.is_pooled and unit is not None and bool(unit.leaves)
        commands = due.take() if due else []
        # The answer is that to the last of them. So where a transaction has failed, COMMIT is not to be reached.
        commands += [CHECKING.decode()] if cleans and commits else []
        commands.append(query.rstrip(";"))
        commands += [text.decode() for text in CLEANING] if cleans else []
        query = SEPARATOR.join(commands)
        send = partial(self._protocol.query, query, timeout)
        if unit is None:
            return await self._watched(query, (), send)
        if not commits:
            return await self._sent(send)
        if self._has_ended():
            await self._hear_the_end(timeout)
        unit.outcome_unknown = True
        try:
            answer = await self._sent(send)
        except BaseException as error:
            unit.commit_failed(error, refused=self._is_refusal(error, cleans=cleans))
            raise
        unit.commit_answered(committed=cleans or answer == "COMMIT")
        return answer

    def _has_ended(self) -> bool:
        """Whether the server's end of the connection is closed, whatever it said before. No trip, and nothing is read.

        Then a COMMIT would not arrive, and it is known that none did.
        """
        line = self._line.fileno()
        if line < 0 or not self._protocol.is_connected():
            return False  # asyncpg knows, and refuses to send
        look = select.poll()
        look.register(line, _END_OF_STREAM)
        return bool(look.poll(0))

    async def _hear_the_end(self, timeout: Any) -> NoReturn:
        """Raise what the server said last, which is the answer to whatever is sent now. No COMMIT is."""
        await self._sent(partial(self._protocol.query, "ROLLBACK", timeout))
        raise asyncpg.ConnectionDoesNotExistError(_GONE)

    def _is_refusal(self, error: BaseException, *, cleans: bool) -> bool:
        if is_unsent(error):
            return True
        told = server_error(error)
        if cleans and (sqlstate(told) or "").startswith(_AMID_CLEANING):
            return False
        return is_refusal(told, lost=not self._protocol.is_connected())
