"""Databases whose encoding is not UTF-8: what the layer says and hears is UTF-8 all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, make_url, text

import db
from db import aio, migrations
from db.environment import event_loop
from db.wire.psycopg_dialect import DRIVER

from .conftest import Use
from .fix_once import effects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from devkit.plugin import Database, MakePgBouncer
    from devkit.servers.postgres import Postgres

__all__ = ["effects"]

# A word that each can hold. SQL_ASCII is no encoding: the server keeps the bytes, whatever they mean.
WORDS = {"LATIN1": "café", "EUC_JP": "日本", "SQL_ASCII": "café"}
TENANT = text("SELECT current_setting('app.tenant_id'), current_setting('app.tenant_id') = :word")
MIGRATION = """
revision = "a1"
down_revision = None
from alembic import op
def upgrade():
    op.execute("CREATE TABLE made AS SELECT '{word}' AS note")
    op.execute("GRANT SELECT ON made TO public")
"""


@pytest.fixture(autouse=True, params=WORDS)
def word(request: pytest.FixtureRequest, database: Database, postgres: Postgres) -> str:
    """One that UTF-8 writes otherwise than the encoding in which the test's database is made anew."""
    postgres.drop_database(database.name)
    postgres.execute(
        f"CREATE DATABASE {database.name} OWNER {database.owner} ENCODING '{request.param}'"
        " LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    )
    return WORDS[request.param]


@pytest.fixture
def closed_loop() -> Iterator[None]:
    yield
    db.dispose()
    event_loop.close()


def heard(conn: Connection, word: str) -> tuple[Any, ...]:
    """What the tenant is to the client, and whether it is ``word`` to the server."""
    return tuple(conn.execute(TENANT, {"word": word}).one())


@pytest.mark.parametrize("unit", [db.begin, db.read])
def test_a_tenant_is_who_it_was_told_to_be(unit: Any, word: str, use: Use) -> None:
    """In a transaction, and in a read, where the prologue travels in another way."""
    use()
    with unit(tenant=word) as conn:
        assert heard(conn, word) == (word, True)


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
@pytest.mark.usefixtures("closed_loop")
def test_so_it_is_on_the_event_loop(driver: str, word: str, use: Use) -> None:
    """With either driver."""
    use(async_driver=driver)

    async def scenario() -> tuple[Any, ...]:
        async with aio.begin(tenant=word) as tx:
            return tuple((await tx.execute(TENANT, {"word": word})).one())

    assert event_loop.run(scenario()) == (word, True)


def test_so_it_is_behind_a_pooler(word: str, database: Database, pgbouncer: MakePgBouncer, use: Use) -> None:
    """Which lends connections to the server that it opened in its own way."""
    use(url=make_url(database.through(pgbouncer()).url()), proxy="pgbouncer")
    with db.begin(tenant=word) as tx:
        assert heard(tx, word) == (word, True)


@pytest.mark.usefixtures("effects")
def test_work_done_once_is_found_by_its_key(word: str) -> None:
    """A duplicate gets the result of the first."""
    assert [db.once(word).run(lambda _: {"charged": word}) for _ in range(2)] == [{"charged": word}] * 2


@pytest.mark.usefixtures("effects")
def test_copied_rows_are_what_was_given(word: str) -> None:
    """COPY's texts are the client's as well."""
    db.copy_rows("effects", [{"note": word}])
    with db.read() as conn:
        assert conn.execute(text("SELECT note, note = :word FROM effects"), {"word": word}).one() == (word, True)


def test_a_migration_writes_what_its_file_says(word: str, use: Use, tmp_path: Path) -> None:
    """Its connection is none of a pool's."""
    (tmp_path / "a1.py").write_text(MIGRATION.format(word=word))
    use(role="owner")
    migrations.upgrade(tmp_path)
    with db.read() as conn:
        assert conn.execute(text("SELECT note, note = :word FROM made"), {"word": word}).one() == (word, True)


def test_what_libpq_reads_around_it_counts_less(word: str, use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment variables are another program's."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN2")
    monkeypatch.setenv("PGOPTIONS", "-c client_encoding=LATIN2")
    use()
    with db.begin(tenant=word) as tx:
        assert heard(tx, word) == (word, True)


def test_a_default_of_the_role_counts_less(word: str, use: Use, database: Database, postgres: Postgres) -> None:
    """So does one of the database, which is below it."""
    postgres.execute(f"ALTER ROLE {database.app} SET client_encoding = LATIN2")
    use()
    with db.begin(tenant=word) as tx:
        assert heard(tx, word) == (word, True)


def test_an_engine_of_the_dialects_own_speaks_it_too(database: Database) -> None:
    """One that somebody made beside the layer's."""
    engine = create_engine(make_url(database.url()).set(drivername=DRIVER))
    with engine.connect() as conn:
        assert conn.scalar(text("SHOW client_encoding")) == "UTF8"
    engine.dispose()
