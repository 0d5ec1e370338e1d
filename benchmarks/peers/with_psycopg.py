"""psycopg alone, with a connection that the module keeps."""

from __future__ import annotations

from typing import Any

import psycopg

from benchmarks.works import NOTE, TENANT, statement_timeout

from .peer import ALL, Peer

READ = "SELECT hits FROM notes WHERE id = %s"
WRITE = "UPDATE notes SET hits = hits + 1 WHERE id = %s"
BOUND_READ = "SELECT hits FROM tenant_notes WHERE id = %s"
BOUND_WRITE = "UPDATE tenant_notes SET hits = hits + 1 WHERE id = %s"


class Psycopg(Peer):
    """``connection.transaction()``: https://www.psycopg.org/psycopg3/docs/basic/transactions.html#transaction-contexts

    In autocommit, as that page advises for it: otherwise the connection would idle in a transaction afterwards. So one
    read that is bound by nothing needs no transaction.
    """

    name = "psycopg"
    offers = ALL
    packages = ("psycopg", "psycopg-binary")
    connection: psycopg.Connection[tuple[Any, ...]]

    def open(self) -> None:
        self.connection = psycopg.connect(self.url, autocommit=True)

    def close(self) -> None:
        self.connection.close()

    def nothing(self) -> None:
        with self.connection.transaction():
            pass

    def read(self) -> Any:
        return _only(self.connection.execute(READ, (NOTE,)))

    def write(self) -> None:
        with self.connection.transaction():
            self.connection.execute(WRITE, (NOTE,))

    def five(self) -> Any:
        with self.connection.transaction():
            _only(self.connection.execute(READ, (NOTE,)))
            self.connection.execute(WRITE, (NOTE,))
            _only(self.connection.execute(READ, (NOTE,)))
            self.connection.execute(WRITE, (NOTE,))
            return _only(self.connection.execute(READ, (NOTE,)))

    def bound_read(self) -> Any:
        with self.connection.transaction():
            self.connection.execute("SET TRANSACTION READ ONLY")
            self._bind(self.connection)
            return _only(self.connection.execute(BOUND_READ, (NOTE,)))

    def bound_write(self) -> None:
        with self.connection.transaction():
            self._bind(self.connection)
            self.connection.execute(BOUND_WRITE, (NOTE,))

    def unpooled(self) -> None:
        # https://www.psycopg.org/psycopg3/docs/basic/usage.html: the block commits and closes.
        with psycopg.connect(self.url) as connection:
            self._bind(connection)
            connection.execute(BOUND_WRITE, (NOTE,))

    def _bind(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("SELECT set_config('app.tenant_id', %s, true)", (TENANT,))
        connection.execute("SELECT set_config('statement_timeout', %s, true)", (statement_timeout(self.context),))


def _only(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Any:
    ((value,),) = cursor.fetchall()
    return value
