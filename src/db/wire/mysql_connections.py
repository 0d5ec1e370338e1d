"""PyMySQL's connection with flights: BEGIN, the limits and the first statement of a unit of work in one packet.

This is where a cursor's statement meets all that the connection is, from the bottom up: ``mysql_session``,
``mysql_packets``, ``mysql_limits``, ``mysql_serving``, ``mysql_transaction_end``. Each knows those before it alone.
"""

from __future__ import annotations

from pymysql import connections, err

from .mysql_text import kind_of, may_be_several
from .mysql_transaction_end import Ending

_LOST = 2013


class MySqlConnection(Ending):
    """``pymysql.Connection`` whose transactions open in one flight, and which may work for a unit."""

    def query(self, sql: str | bytes, unbuffered: bool = False) -> int:
        """PyMySQL's, with what is due on the way."""
        text = sql.encode(self.encoding, "surrogateescape") if isinstance(sql, str) else bytes(sql)
        text = text.rstrip().removesuffix(b";").rstrip()  # of which the server makes nothing, but behind another one
        kind = kind_of(text)
        self._look_at(kind)
        if kind.waits and self.unit is not None and not unbuffered:
            return self._keep(text)
        if self.unproven and not self.is_fit:
            self._force_close()
            raise err.OperationalError(_LOST, "Lost connection to MySQL server while it was idle: nothing was sent")
        self._be_patient()
        opening = self._opening()
        closing: list[bytes] = []
        is_several = may_be_several(text, backslashes=self._has_backslashes())
        if opening:
            rides = kind.rides and not unbuffered and not is_several
            if rides and self.single_reads and kind.reads:
                closing = self._closing(b"COMMIT")
            self._note_opening(kind if rides else None)
        else:
            rides = kind.rides and bool(self._due) and not unbuffered and not is_several
        ahead = [*opening, *self._due]
        try:
            if ahead and not rides:
                self._fly(ahead)
            if rides and ahead:
                with self._in_time():
                    self._fly([*ahead, text], closing)
            else:
                with self._in_time():
                    self._send_alone(text, unbuffered=unbuffered, is_several=is_several)
        except err.MySQLError as error:
            self._heard(error)
            raise
        if closing:
            self._note_end()
        self._due.clear()
        return int(self._affected_rows)

    def _keep(self, text: bytes) -> int:
        """Let ``text``, which is about a savepoint, go with the next statement; it has no rows."""
        self._due.append(text)
        self._result = connections.MySQLResult(self)
        self._result.connection, self._result.affected_rows, self._result.insert_id = None, 0, 0
        return 0
