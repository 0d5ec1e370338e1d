"""The application of template.yaml, whatever it is: what is asked of it here holds for any that takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest
from sqlalchemy import make_url

import db
from db.environment import process
from db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database

CLOSED_PORT = 1


class Enter(Protocol):
    """Starts afresh on the test's database as its owner; ``down``, at a port where nothing listens."""

    def __call__(self, *, down: bool = False) -> None: ...


@pytest.fixture
def enter(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Enter]:
    """The database is empty, and has the roles that migrations grant rights to."""
    monkeypatch.setenv("APP_ROLE", database.app)
    monkeypatch.setenv("REPORT_ROLE", database.owner)

    def configure(*, down: bool = False) -> None:
        url = make_url(database.url("owner"))
        if down:
            url = url.set(port=CLOSED_PORT)
        db.configure(Settings(url=url, connect_wait_s=0))

    yield configure
    db.dispose()
    process.DEFAULT._runtime = None
