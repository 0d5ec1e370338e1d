"""Where the works happen: a database with the two tables, reached by a role that row-level security binds."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

from devkit.servers.passwords import new_password

from .works import TABLES

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from devkit.servers.postgres import Postgres


class Place:
    """A database of its own on ``postgres``, for the length of a ``with`` block.

    With ``roots`` its clients use TLS and check the server's certificate against that file.
    """

    def __init__(self, postgres: Postgres, roots: Path | None = None) -> None:
        self._postgres = postgres
        self._roots = roots
        self.name = self.user = f"bench_{secrets.token_hex(4)}"
        self.password = new_password()

    def __enter__(self) -> Self:
        self._postgres.create_role(self.user, self.password)
        self._postgres.create_database(self.name, owner=self._postgres.superuser)
        self._postgres.execute(
            f"{TABLES} GRANT SELECT, UPDATE ON notes, tenant_notes TO {self.user}", database=self.name
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._postgres.drop_database(self.name)
        self._postgres.execute(f"DROP ROLE {self.user}")

    @property
    def host(self) -> str:
        return self._postgres.host

    @property
    def port(self) -> int:
        return self._postgres.port

    def url(self, port: int | None = None) -> str:
        """libpq's URI of the database, at ``port`` where something stands in between.

        Without TLS unless there are roots: no peer does the work of it itself, and to ask for it is a trip more.
        """
        login = f"{self.user}:{quote(self.password, safe='')}"
        tls = "sslmode=disable" if self._roots is None else f"sslmode=verify-full&sslrootcert={self._roots}"
        return f"postgresql://{login}@{self.host}:{port or self.port}/{self.name}?{tls}"

    def hits(self) -> tuple[int, int]:
        """The marks on the plain note, and on the tenants' together."""
        ((plain,),) = self._postgres.execute("SELECT sum(hits) FROM notes", database=self.name)
        ((bound,),) = self._postgres.execute("SELECT sum(hits) FROM tenant_notes", database=self.name)
        return int(plain), int(bound)
