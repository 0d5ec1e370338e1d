"""What a handler meets in the real Lambda runtime: one connection from invocation to invocation, or one for each."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from devkit.lambda_runtime.environment import LambdaEnvironment

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database, PutSecret
    from devkit.servers.aws import LocalAws
    from devkit.servers.postgres import Postgres

FUNCTION = """
import db
from sqlalchemy import text

@db.invocation
def handler(event, context):
    with db.read() as conn:
        return conn.execute(text(event)).scalar_one()
"""

Environment = Callable[..., LambdaEnvironment]


@pytest.fixture
def environment(database: Database, local_aws: LocalAws, secret: PutSecret, tmp_path: Path) -> Environment:
    """An environment of FUNCTION, with the secret of the role app and ``variables``."""
    (tmp_path / "function.py").write_text(FUNCTION)
    name = f"runtime-{uuid.uuid4()}"
    login = {"username": database.app, "password": database.app_password}
    secret(name, {"host": database.host, "port": database.port, "dbname": database.name, **login})
    given = {**local_aws.environment(), "DB_SECRET_ID": name}

    def make(**variables: str) -> LambdaEnvironment:
        return LambdaEnvironment(
            handler="function.handler", environment=given | variables, code=[tmp_path], timeout_s=30
        )

    return make


def connection_events(lines: tuple[str, ...]) -> list[str]:
    read: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    return [line["connection_event"] for line in read if "connection_event" in line]


def test_a_forgotten_decorator_is_said_once(environment: Environment, tmp_path: Path) -> None:
    """Of the handler that Lambda calls, and not of what its module did when it was loaded."""
    undecorated = FUNCTION.replace("@db.invocation\n", "")
    module = f"{undecorated}\nhandler('SELECT 1', None)\nprint('loaded')\n"
    (tmp_path / "function.py").write_text(module)
    with environment() as running:
        lines = [line for _ in range(2) for line in running.invoke("SELECT 1").logs]
    said = [place for place, line in enumerate(lines) if "lacks @db.invocation" in line]
    assert len(said) == 1
    assert lines.index("loaded") < said[0]


def test_a_warm_environment_keeps_its_connection(environment: Environment) -> None:
    """Cold: it connects. Warm: it only checks out, and says so."""
    with environment(POWERTOOLS_LOG_LEVEL="DEBUG") as running:
        cold, warm = (running.invoke("SELECT 1") for _ in range(2))
    assert (cold.cold, warm.cold) == (True, False)
    assert connection_events(cold.logs) == ["connect", "checkout", "checkin"]
    assert connection_events(warm.logs) == ["checkout", "checkin"]


def test_a_null_pool_leaves_no_connection_between_invocations(
    environment: Environment, database: Database, postgres: Postgres
) -> None:
    """Each connects and closes."""
    with environment(DB_POOL="null") as running:
        for _ in range(2):
            assert connection_events(running.invoke("SELECT 1").logs) == ["connect", "close"]
            assert postgres.all_left(database.name, user=database.app)


def test_an_environment_thaws_with_a_live_connection(
    environment: Environment, database: Database, postgres: Postgres
) -> None:
    """Also when the server has ended the old one in the meantime."""
    with environment() as running:
        assert running.invoke("SELECT 1").payload == 1
        running.freeze()
        postgres.terminate(database.name)
        running.thaw()
        invocation = running.invoke("SELECT 1")
    assert invocation.payload == 1
    assert connection_events(invocation.logs) == ["invalidate", "close", "connect"]


def test_no_line_of_the_log_holds_a_password(environment: Environment, database: Database, postgres: Postgres) -> None:
    """With everything on that logs (DEBUG, echo of SQL, rows and pool), and failures of two kinds."""
    noisy = {"POWERTOOLS_LOG_LEVEL": "DEBUG", "DB_ECHO": "debug", "DB_ECHO_POOL": "debug"}
    with environment(**noisy, AWS_LAMBDA_LOG_LEVEL="DEBUG") as running:
        assert running.invoke("SELECT 1").error is None
        assert running.invoke("SELECT nothing").error is not None
        postgres.terminate(database.name)
        running.invoke("SELECT 1")
        lines = running.logs
    assert any('"connection_event":"invalidate"' in line for line in lines)
    assert [line for line in lines if database.app_password in line] == []


def test_an_environment_without_settings_says_all_that_is_missing(environment: Environment) -> None:
    """At once, and not one after the other."""
    with environment(DB_SECRET_ID="", DB_POOL="big") as running:
        invocation = running.invoke("SELECT 1")
    assert invocation.error == "ConfigurationError"
    log = "\n".join(invocation.logs)
    assert "DB_POOL is none of queue, null, static" in log
    assert "set DB_SECRET_ID, DB_URL" in log
