"""libpq's environment variables: none reaches into a connection unless it was asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from psycopg import pq
from sqlalchemy import make_url, text

import db
from db import aio
from db.settings import Settings

if TYPE_CHECKING:
    from devkit.plugin import Database
    from tests.postgres.conftest import Use

SEEN = text(
    "SELECT current_setting('client_encoding'), current_setting('timezone'), current_setting('search_path'), "
    "current_setting('datestyle'), current_setting('application_name'), current_setting('app.tenant_id')"
)
# A value of each that would show, or that no connect survives.
VALUES = {
    "PGCLIENTENCODING": "LATIN1",
    "PGHOSTADDR": "192.0.2.1",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGTARGETSESSIONATTRS": "read-only",
    "PGREQUIREAUTH": "none",
    "PGSSLMODE": "verify-full",
    "PGGSSENCMODE": "require",
    "PGMINPROTOCOLVERSION": "3.2",
}
REFUSED = {"PGSERVICE", "PGTZ", "PGDATESTYLE", "PGGEQO"}
EVERY = sorted({o.envvar.decode() for o in pq.Conninfo.get_defaults() if o.envvar} | REFUSED)


def seen() -> tuple[object, ...]:
    with db.begin(tenant="café") as tx:
        return tuple(tx.execute(SEEN).one())


@pytest.mark.parametrize("name", EVERY)
def test_no_variable_changes_a_connection(name: str, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where libpq can be told not to look, it is; where it cannot, the variable is refused by name, at once."""
    use()
    plain = seen()
    db.dispose()
    monkeypatch.setenv(name, VALUES.get(name, "nonsense"))
    if name in REFUSED:
        with pytest.raises(db.ConfigurationError, match=f"{name} is set"):
            seen()
    else:
        assert seen() == plain


def test_what_is_asked_for_holds(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """DB_CONNECT_ARGS has the last word, whether or not the variable is there."""
    monkeypatch.setenv("PGOPTIONS", "-c timezone=Asia/Seoul")
    use(connect_args={"options": "-c timezone=Asia/Tokyo"})
    with db.begin() as tx:
        assert tx.scalar(text("SHOW timezone")) == "Asia/Tokyo"


@pytest.mark.parametrize("name", ["PGSSLCERT", "PGSERVICE", "PGTARGETSESSIONATTRS"])
def test_asyncpg_is_kept_from_those_that_it_reads(
    name: str, use: Use, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no word for all of them, so they are refused."""
    use()
    monkeypatch.setenv(name, "nonsense")
    db.configure(Settings(url=make_url(database.url()), async_driver="asyncpg"))

    async def one() -> None:
        async with aio.begin() as tx:
            await tx.execute(text("SELECT 1"))

    with pytest.raises(db.ConfigurationError, match=f"{name} is set"):
        asyncio.run(one())
