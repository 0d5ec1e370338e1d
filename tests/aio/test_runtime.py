"""An ``async def`` handler in the real Lambda runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.lambda_runtime.environment import LambdaEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

FUNCTION = """

import db
from db import aio
from sqlalchemy import text

async def pid():
    async with aio.begin() as tx:
        return await tx.scalar(text("SELECT pg_backend_pid()"))

@db.invocation
async def handler(event, context):
    return await aio.gather(*(pid() for _ in range(event)))
"""


@pytest.fixture
def environment(tmp_path: Path, database: Database) -> Iterator[LambdaEnvironment]:
    (tmp_path / "function.py").write_text(FUNCTION)
    settings = {"DB_URL": database.url()}
    code = [tmp_path]
    with LambdaEnvironment(
        handler="function.handler", code=code, environment=settings, timeout_s=30, name="aio"
    ) as running:
        yield running


def test_a_freeze_between_two_invocations_loses_nothing(environment: LambdaEnvironment) -> None:
    """The same loop goes on, with the same connection."""
    first = environment.invoke(1)
    environment.freeze()
    environment.thaw()
    second = environment.invoke(1)
    assert (first.cold, second.cold, first.error, second.error) == (True, False, None, None)
    assert second.payload == first.payload


def test_what_died_in_a_freeze_is_replaced(
    environment: LambdaEnvironment, database: Database, postgres: Postgres
) -> None:
    """Each of several connections, as it is needed."""
    first = environment.invoke(8)
    environment.freeze()
    postgres.terminate(database.name)
    environment.thaw()
    second = environment.invoke(8)
    assert (first.error, second.error) == (None, None)
    assert set(first.payload).isdisjoint(second.payload)
    assert len(set(first.payload)) <= 4
