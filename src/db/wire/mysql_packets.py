"""What goes over the socket in one packet, and the answers to it: as many as there were statements, each to its own.

The protocol takes several statements in one packet, and answers them one after another; the first that fails ends it.
(Packets that are sent without waiting for answers would do the same, but hang on Aurora: CONJ-386 of MariaDB's driver
for Java, https://mariadb.com/kb/en/6057/.)

Only what is composed in this room has several statements. A text of somebody else's that may hold more than one goes
alone, with the server told before to refuse that, as it does to who has not asked for it.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

from pymysql import err
from pymysql.constants import COMMAND, SERVER_STATUS

from .mysql_session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OUT_OF_SYNC = 2014  # CR_COMMANDS_OUT_OF_SYNC
_ON, _OFF = b"\x00\x00", b"\x01\x00"


class Packets(Session):
    """A session that sends several statements at once, and knows what has come back.

    ``unproven``: nothing has come back for this checkout yet, and ``undone``: what was sent of it, if anything, has
    been undone with the connection. ``abandoned``: it was closed in the middle of an answer. ``is_answering``: there is
    more to come of one.
    """

    unproven = True
    undone = True
    abandoned = False
    is_answering = False
    _is_open = False  # the unit's opening was sent
    _dirty = False  # there may be a transaction, whatever the last status said
    _takes_several = True
    _is_recoded = False  # the server may read a text in another character set than PyMySQL wrote it in
    _affected_rows: int = 0

    def say(self, statement: str) -> None:
        """Send ``statement``, which is this package's own, and gives no rows: nobody is told what it leaves."""
        self._send_alone(statement.encode(), unbuffered=False, is_several=False)

    def abandon(self) -> None:
        """Close the connection in the middle of an answer: nobody can read on, and nothing of it may be kept."""
        self.abandoned = True
        self._force_close()

    def hang_up(self) -> None:
        """Close it without a word: the server may be in the middle of one."""
        if self.is_answering and self._sock is not None:
            # Whoever waits for the answer may be interrupted in the middle of a read, which a close would be part of.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        else:
            self._force_close()

    def _fly(self, statements: Sequence[bytes], closing: Sequence[bytes] = (), *, unbuffered: bool = False) -> None:
        """Send all in one packet, and read the answers; what stays as the result is that of the last of ``statements``.

        Raises what the server says of the first that fails, and then it has run none of those behind. ``unbuffered``,
        the rows of that last one are left to be read, and nothing may be behind it.
        """
        self._allow_several(True)
        # On a line of its own, each: a comment at the end of one ends with its line.
        self._send(b"\n;".join([*statements, *closing]))
        self._next_answers(len(statements), more=bool(closing), unbuffered=unbuffered)
        if closing:
            # A cursor knows its own result by that.
            kept, affected = self._result, self._affected_rows
            self._next_answers(len(closing))
            self._result, self._affected_rows = kept, affected
            kept.has_next = False

    def _send_alone(self, text: bytes, *, unbuffered: bool, is_several: bool) -> None:
        if is_several:
            self._allow_several(False)
        if not self.get_autocommit():
            self._dirty = True
        self.undone = False
        self._send(text)
        self._next_answer(unbuffered=unbuffered)

    def _send(self, packet: bytes) -> None:
        self._last_used = time.time()
        with self._whole():
            self.is_answering = True
            self._execute_command(COMMAND.COM_QUERY, packet)

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """What an exception of somebody else's breaks off in here, is the end of the connection."""
        try:
            yield
        except err.MySQLError:
            self.is_answering = False
            raise
        except BaseException:
            self._interrupted()
            raise

    def _interrupted(self) -> None:
        """What comes next would be taken for another's answer."""
        self.abandon()

    def _next_answers(self, count: int, *, more: bool = False, unbuffered: bool = False) -> None:
        """The next ``count`` answers, behind which there are ``more`` or none. Raises where the server has others."""
        for left in reversed(range(count)):
            self._next_answer(unbuffered=unbuffered and left == 0)
            if bool(self._result.has_next) is not (left > 0 or more):
                self.abandon()
                raise err.InternalError(_OUT_OF_SYNC, "the server has answered other statements than were sent")

    def _next_answer(self, *, unbuffered: bool = False) -> None:
        with self._whole():
            self._affected_rows = self._read_query_result(unbuffered=unbuffered)
        self.unproven = False
        self.is_answering = unbuffered or bool(self._result.has_next)
        self._dirty = unbuffered or self._is_open or bool(self.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def _allow_several(self, several: bool) -> None:
        if several is not self._takes_several:
            self._execute_command(COMMAND.COM_SET_OPTION, _ON if several else _OFF)
            self._read_packet()
            self._takes_several = several

    @property
    def _is_streaming(self) -> bool:
        """Whether rows that a cursor has not read yet are on their way."""
        return self._result is not None and bool(self._result.unbuffered_active)

    def _discard_unread(self) -> None:
        """Read what nobody has: the answer to what comes next is behind it."""
        with self._whole():
            if self._is_streaming:
                self._result._finish_unbuffered_query()
            while self._result is not None and self._result.has_next:
                self.next_result()

    def _has_backslashes(self) -> bool:
        return not self.server_status & SERVER_STATUS.SERVER_STATUS_NO_BACKSLASH_ESCAPES

    def _has_transaction(self) -> bool:
        return self._sock is not None and (self._dirty or self._is_open)
