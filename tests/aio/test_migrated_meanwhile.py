"""A migration between two units: what a kept connection had prepared before is no plan any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import exc, text

import db
from db import aio, migrations
from db.environment import event_loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from tests.aio.conftest import Lines, Use

REVISION = """
revision = "{this}"
down_revision = {before!r}
from alembic import op
def upgrade():
    for statement in {statements!r}:
        op.execute(statement)
"""
BEFORE = (
    "CREATE TYPE size AS (width int)",
    "CREATE TABLE boxes (n int, size size)",
    "INSERT INTO boxes VALUES (1, ROW(2))",
)
ONE, BOXES = text("SELECT 1"), text("SELECT * FROM boxes")
PREPARING = {"connect_args": {"prepare_threshold": 0}}


@pytest.fixture
def migrate(use: Use, tmp_path: Path) -> Callable[[str], None]:
    """Makes the table ``boxes``; called with a statement, it runs that as the next migration."""

    def run(this: str, before: str | None, *statements: str) -> None:
        (tmp_path / f"{this}.py").write_text(REVISION.format(this=this, before=before, statements=statements))
        migrations.upgrade(tmp_path)

    use(role="owner")
    run("a1", None, *BEFORE)
    return lambda statement: run("a2", "a1", statement)


async def boxes(tx: AsyncConnection) -> list[Any]:
    await tx.execute(ONE)  # the first statement's flight would be sent again with psycopg, which nobody would notice
    return [tuple(row) for row in await tx.execute(BOXES)]


async def in_a_unit() -> list[Any]:
    async with aio.begin() as tx:
        return await boxes(tx)


@pytest.mark.parametrize(
    ("driver", "change", "after"),
    [
        ("asyncpg", "ALTER TABLE boxes ADD COLUMN colour text", (1, (2,), None)),
        ("asyncpg", "ALTER TABLE boxes ALTER COLUMN n TYPE text", ("1", (2,))),
        ("asyncpg", "ALTER TYPE size ADD ATTRIBUTE height int", (1, (2, None))),
        ("psycopg", "ALTER TABLE boxes ADD COLUMN colour text", (1, "(2)", None)),
    ],
)
def test_run_runs_again(
    driver: str, change: str, after: tuple[Any, ...], migrate: Callable[[str], None], *, use: Use, lines: Lines
) -> None:
    """Once, and on the connection that it has."""
    use(role="owner", async_driver=driver, **PREPARING)
    assert len(event_loop.run(in_a_unit())) == 1
    migrate(change)
    attempts: list[AsyncConnection] = []

    async def work(tx: AsyncConnection) -> list[Any]:
        attempts.append(tx)
        return await boxes(tx)

    async def scenario() -> list[Any]:
        return await aio.run(work)

    assert event_loop.run(scenario()) == [after]
    assert len(attempts) == 2
    assert [line["role"] for line in lines.of("connect")] == ["writer", "unpooled"]


def test_so_does_its_twin(migrate: Callable[[str], None], use: Use) -> None:
    """Where the user has told psycopg to prepare."""
    use(role="owner", **PREPARING)
    attempts: list[int] = []

    def work(tx: Any) -> list[Any]:
        attempts.append(1)
        tx.execute(ONE)
        return list(tx.execute(BOXES).scalars())

    db.run(work)
    migrate("ALTER TABLE boxes ALTER COLUMN n TYPE text")
    assert db.run(work) == ["1"]
    assert len(attempts) == 3


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_whoever_asks_is_told_to_try_again(driver: str, migrate: Callable[[str], None], use: Use) -> None:
    """Around a unit the decision is the caller's; the next one has forgotten the plan."""
    use(role="owner", async_driver=driver, **PREPARING)
    event_loop.run(in_a_unit())
    migrate("ALTER TABLE boxes ADD COLUMN colour text")
    with pytest.raises(exc.NotSupportedError) as caught:
        event_loop.run(in_a_unit())
    assert db.verdict(caught.value) is db.Verdict.RETRY_TRANSACTION
    assert [row[2] for row in event_loop.run(in_a_unit())] == [None]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_what_the_server_cannot_do_at_all_is_not_tried_again(
    driver: str, migrate: Callable[[str], None], use: Use
) -> None:
    """Its SQLSTATE is the same."""
    use(role="owner", async_driver=driver)
    migrate("CREATE VIEW seen AS SELECT n FROM boxes")
    attempts: list[int] = []

    async def work(tx: AsyncConnection) -> None:
        attempts.append(1)
        await tx.execute(text("ALTER TABLE boxes ALTER COLUMN n TYPE text"))

    async def scenario() -> None:
        await aio.run(work)

    with pytest.raises(exc.DBAPIError) as caught:
        event_loop.run(scenario())
    assert (db.sqlstate(caught.value), db.verdict(caught.value)) == ("0A000", db.Verdict.GIVE_UP)
    assert len(attempts) == 1
