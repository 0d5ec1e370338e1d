"""What Init does ahead of the first event, where DB_WARM asks for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from devkit.lambda_runtime.managed_and_snapstart import BareEnvironment

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

SYNC = """
import db
from sqlalchemy import text

@db.invocation
def handler(event, context):
    with db.begin() as tx:
        return tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
"""
ASYNC = """
import db
from db import aio
from sqlalchemy import text

@db.invocation
async def handler(event, context):
    async with aio.begin() as tx:
        return (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
"""


def events(lines: list[str]) -> list[str]:
    read: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    return [line["connection_event"] for line in read if "connection_event" in line]


def environment(
    tmp_path: Path, url: str, code: str = SYNC, *, snap_start: bool = False, **more: str
) -> BareEnvironment:
    (tmp_path / "function.py").write_text(code)
    variables = {"DB_URL": url, "DB_WARM": "init", "DB_CONNECT_WAIT_S": "0", **more}
    return BareEnvironment(
        handler="function.handler", environment=variables, code=[tmp_path], snap_start=snap_start, timeout_s=30
    )


@pytest.mark.parametrize("code", [SYNC, ASYNC], ids=["sync", "async"])
def test_the_first_event_finds_the_connection_that_init_opened(
    database: Database, postgres: Postgres, tmp_path: Path, code: str
) -> None:
    """One connect, before there is an event; it is the one that serves."""
    with environment(tmp_path, database.url(), code) as function:
        (opened,) = postgres.connections(database.name, user=database.app)
        assert function.invoke({}).payload == opened
        assert events(function.logs) == ["connect"]


def test_what_keeps_init_from_connecting_is_said_and_met_again(tmp_path: Path) -> None:
    """Init goes on: the event can answer for it, and tries by itself."""
    with environment(tmp_path, "postgresql://app:canary@127.0.0.1:1/app") as function:
        assert "not warm" in events(function.logs)
        assert function.invoke({}).error == "OperationalError"
        assert "canary" not in "".join(function.logs)


def test_a_setting_that_is_wrong_does_not_break_init_either(tmp_path: Path) -> None:
    """It is raised where the handler first uses the database, as it would be without DB_WARM."""
    with environment(tmp_path, "postgresql://app@localhost/app", DB_POOL="null") as function:
        assert events(function.logs) == ["not warm"]
        assert function.invoke({}).error == "ConfigurationError"


def test_a_snapshot_is_taken_of_no_connection(database: Database, tmp_path: Path) -> None:
    """None is opened for one, either: each copy connects by itself."""
    with environment(tmp_path, database.url(), snap_start=True) as function:
        assert events(function.logs) == []
        function.restore()
        assert function.invoke({}).error is None
        assert events(function.logs) == ["connect"]
