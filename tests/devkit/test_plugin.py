"""The fixtures, used as a user's test uses them."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING

import boto3
import pytest
from aws_lambda_powertools import Logger
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from devkit.network.wire import Counts

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database, LambdaContext, MakeDoor, MakeLambdaContext, MakePgBouncer, MakeWire, PutSecret
    from devkit.servers.aws import LocalAws
    from devkit.servers.replica import Cluster
    from tests.devkit.conftest import RunPython

HEAVY = {"asyncio", "boto3", "botocore", "db", "flask", "moto", "psycopg", "samcli", "sqlalchemy", "werkzeug"}

SUITE = """
import pytest

names = []

@pytest.mark.parametrize("number", range(2))
def test_database(database, number):
    names.append(database.name)
    assert len(set(names)) == len(names)

def test_left_over(postgres):
    assert postgres.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%'") == []
    assert postgres.execute("SELECT rolname FROM pg_roles WHERE rolname ~ '^(owner|app)_'") == []
"""


def test_the_database_has_an_owner_and_an_app(database: Database) -> None:
    """Two logins: the owner creates, the app may do what it is granted and no more."""
    owner, app = create_engine(database.url("owner")), create_engine(database.url())
    with owner.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id int)"))
    with app.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
        connection.execute(text("SELECT id FROM orders"))
    with owner.begin() as connection:
        connection.execute(text(f"GRANT SELECT ON orders TO {database.app}"))
    with app.connect() as connection:
        assert connection.execute(text("SELECT id FROM orders")).all() == []
    owner.dispose()
    app.dispose()


def test_every_test_has_a_database_of_its_own(tmp_path: Path, run_python: RunPython) -> None:
    """And the server is as it was when the test has ended."""
    suite = tmp_path / "test_suite.py"
    suite.write_text(SUITE)
    quiet = ("-p", "no:randomly", "-p", "no:cacheprovider", "-W", "error")
    assert "3 passed" in run_python("-m", "pytest", *quiet, suite)


def test_a_wire_stands_in_front_of_a_database(database: Database, wire: MakeWire) -> None:
    """Only what goes through it counts."""
    proxy = wire()
    engine = create_engine(database.through(proxy).url("owner"), connect_args={"sslmode": "disable"})
    with engine.connect() as connection:
        before = proxy.counts()
        connection.execute(text("SELECT 1"))
        connection.commit()
        assert proxy.counts() - before == Counts(trips=3)
    engine.dispose()
    assert proxy.counts().connections == 1


def test_wires_and_poolers_stand_in_a_row(database: Database, wire: MakeWire, pgbouncer: MakePgBouncer) -> None:
    """Each takes the next one as its upstream, and the database is reached through the first."""
    inner = wire()
    outer = wire(upstream=pgbouncer(upstream=inner, default_pool_size=1))
    engine = create_engine(database.through(outer).url("owner"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_user")).scalar() == database.owner
    engine.dispose()
    assert outer.counts().connections == 1
    assert inner.counts().connections == 2  # one asks for the password, one serves


def test_every_door_leads_to_the_database(door: MakeDoor, database: Database, request: pytest.FixtureRequest) -> None:
    """Each is a wire, and what stands there has words of its own for a login that is refused."""
    refused = {
        "direct": "password authentication failed for user",
        "pgbouncer": "SASL authentication failed",
        "rds-proxy": "The password that was provided for the role",
    }
    by_door = door()
    engine = create_engine(database.through(by_door).url(), connect_args={"sslmode": "disable"})
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_user")).scalar() == database.app
    engine.dispose()
    assert by_door.counts().connections == 1
    mistyped = engine.url.set(password="mistyped")
    with pytest.raises(OperationalError, match=refused[door.name]):
        create_engine(mistyped, connect_args={"sslmode": "disable"}).connect()
    assert request.node.name.endswith(f"[{door.name}]")


def test_a_replicated_database_is_behind_the_clusters_address(
    replicated: Cluster, replicated_database: Database
) -> None:
    """An empty one with logins of its own, as ``database`` has; its reader has the same."""
    assert (replicated_database.host, replicated_database.port) == (replicated.endpoint.host, replicated.endpoint.port)
    replicated.catch_up()
    engine = create_engine(replicated_database.through(replicated.reader).url())
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_user")).scalar() == replicated_database.app
    engine.dispose()


def test_a_secret_is_where_boto3_looks(secret: PutSecret, local_aws: LocalAws) -> None:
    """The product's own client finds it, without a word about where."""
    kept = secret("orders/db", {"username": "app"})
    fetched_before = local_aws.count("GetSecretValue")
    client = boto3.client("secretsmanager")
    answer = client.get_secret_value(SecretId=kept)
    client.close()
    assert (answer["Name"], json.loads(answer["SecretString"])) == ("orders/db", {"username": "app"})
    assert local_aws.count("GetSecretValue") - fetched_before == 1


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_secret_ends_with_its_test(secret: PutSecret, local_aws: LocalAws, attempt: int) -> None:
    """The same name is a new secret in the next test: it is created, and has no previous version."""
    asked_before = len(local_aws.calls)
    secret("orders/db", f"attempt {attempt}")
    assert local_aws.calls[asked_before:] == ["CreateSecret"]


def test_the_context_counts_down_to_its_deadline(lambda_context: MakeLambdaContext) -> None:
    """By the wall clock, in whole milliseconds, and never below zero; the deadline can be moved."""
    context = lambda_context(remaining_s=3)
    assert 2_900 <= context.get_remaining_time_in_millis() <= 3_000
    context.deadline_s = time.time() + 60
    assert 59_000 <= context.get_remaining_time_in_millis() <= 60_000
    context.deadline_s = time.time() - 60
    assert context.get_remaining_time_in_millis() == 0


def test_powertools_takes_the_context_for_lambdas(lambda_context: MakeLambdaContext) -> None:
    """It has every attribute that the Logger reads."""
    # A name and a stream of its own: Powertools keeps one handler a service, with the stdout of whoever came first.
    printed = io.StringIO()
    logger = Logger(service="test_plugin", stream=printed)

    @logger.inject_lambda_context
    def handler(event: dict[str, object], context: LambdaContext) -> None:
        logger.info("handled")

    handler({}, lambda_context(request_id="1-2-3"))
    line = json.loads(printed.getvalue())
    assert (line["function_request_id"], line["function_memory_size"]) == ("1-2-3", "512")


def test_the_plugin_itself_is_light(run_python: RunPython) -> None:
    """Every run of pytest imports it, also one that needs no database."""
    script = "import sys, pytest; before = set(sys.modules); import devkit.plugin; print(*set(sys.modules) - before)"
    assert not {name.partition(".")[0] for name in run_python("-c", script).split()} & HEAVY
