"""PyMySQL's connection with flights: BEGIN, the limits and the first statement of a unit of work in one packet.

This is where a cursor's statement meets all that the connection is, from the bottom up: ``mysql_session``,
``mysql_packets``, ``mysql_limits``, ``mysql_serving``, ``mysql_transaction_end``. Each knows those before it alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymysql import connections, err

from .mysql_text import kind_of, may_be_several
from .mysql_transaction_end import Ending

if TYPE_CHECKING:
    from .mysql_text import Kind

_LOST = 2013
_TOO_LONG = 1153  # ER_NET_PACKET_TOO_LARGE
_KEPT_BYTES = 1024  # for what goes ahead of a statement and behind it


class MySqlConnection(Ending):
    """``pymysql.Connection`` whose transactions open in one flight, and which may work for a unit."""

    def query(self, sql: str | bytes, unbuffered: bool = False) -> int:
        """PyMySQL's, with what is due on the way."""
        text = sql.encode(self.encoding, "surrogateescape") if isinstance(sql, str) else bytes(sql)
        text = text.rstrip().removesuffix(b";").rstrip()  # of which the server makes nothing, but behind another one
        kind = kind_of(text)
        wrote = self._wrote
        self._refuse_too_long(text)
        self._look_at(kind)
        if self.unit is not None:
            self._discard_unread()
        # Nothing is known of what may be more than a savepoint's text: that goes alone.
        if kind.waits and self.unit is not None and not unbuffered and not self._may_be_several(text):
            return self._keep(text)
        if self.unproven and not self.is_fit:
            self._force_close()
            raise err.OperationalError(_LOST, "Lost connection to MySQL server while it was idle: nothing was sent")
        self._be_patient()
        try:
            with self._whole():
                has_ended = self._fly_with_what_is_due(text, kind, unbuffered=unbuffered)
        except err.MySQLError as error:
            self._heard(error)
            raise
        if has_ended:
            self._look_back(kind, wrote=wrote)
        return int(self._affected_rows)

    def _refuse_too_long(self, text: bytes) -> None:
        """Raise what the server would say of ``text`` and then hang up, most often before anybody has read it."""
        limit = int(self.facts["max_allowed_packet"])
        if len(text) > limit - _KEPT_BYTES:
            said = f"a statement of {len(text):,} bytes, and max_allowed_packet is {limit:,}: nothing was sent"
            raise err.OperationalError(_TOO_LONG, said)

    def _fly_with_what_is_due(self, text: bytes, kind: Kind, *, unbuffered: bool) -> bool:
        """Whether the server says that ``text`` has ended the transaction in which it ran."""
        opening = self._opening()
        ahead = [*opening, *self._due]
        is_several = self._may_be_several(text)
        rides = bool(ahead) and kind.rides and not is_several
        ends = bool(opening) and rides and self.single_reads and kind.reads and not unbuffered
        closing = self._closing(b"COMMIT") if ends else []
        if opening:
            self._note_opening(kind if ends else None)
        if ahead and not rides:
            self._fly(ahead)
        was_within = self._is_within or bool(opening)
        with self._in_time():
            if rides:
                self._fly([*ahead, text], closing, unbuffered=unbuffered)
            else:
                self._send_alone(text, unbuffered=unbuffered, is_several=is_several)
        if closing:
            self._note_end()
        self._due.clear()
        return was_within and not (closing or unbuffered or self._is_within)

    def _may_be_several(self, text: bytes) -> bool:
        return may_be_several(text, backslashes=self._has_backslashes()) or (self._is_recoded and b";" in text)

    def _keep(self, text: bytes) -> int:
        """Let ``text``, which is about a savepoint, go with the next statement; it has no rows."""
        self._due.append(text)
        self._result = connections.MySQLResult(self)
        self._result.connection, self._result.affected_rows, self._result.insert_id = None, 0, 0
        return 0
