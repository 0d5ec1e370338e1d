"""The custom resource that migrates: CloudFormation is answered, whatever happens."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

import db
from db.environment import process
from devkit.app.cloudformation import Callbacks
from handlers import migrate

from .conftest import Enter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.postgres import Postgres

CREATE = {"RequestType": "Create", "StackId": "stack", "RequestId": "r-1", "LogicalResourceId": "Migration"}

MADE = """
revision = "a1"
down_revision = None
from alembic import op
def upgrade():
    op.execute("CREATE TABLE made (n int)")
"""
MADE_AGAIN = MADE.replace('"a1"', '"a2"').replace("None", '"a1"')


@pytest.fixture
def midway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two migrations, of which the second fails."""
    (tmp_path / "a1_made.py").write_text(MADE)
    (tmp_path / "a2_made_again.py").write_text(MADE_AGAIN)
    monkeypatch.setattr(migrate, "VERSIONS", tmp_path)


@pytest.fixture
def invoke(lambda_context: MakeLambdaContext) -> Callable[..., Any]:
    return lambda **event: migrate.handler(event, lambda_context(remaining_s=30))


@pytest.fixture
def callbacks() -> Iterator[Callbacks]:
    with Callbacks() as listening:
        yield listening


def test_a_failed_migration_is_answered_with_its_reason(
    enter: Enter, invoke: Callable[..., Any], callbacks: Callbacks
) -> None:
    """The stack rolls back at once instead of waiting for an hour."""
    enter(down=True)
    answer = invoke(**CREATE, ResponseURL=callbacks.url)
    (told,) = callbacks.take()
    assert (answer["status"], told["Status"]) == ("FAILED", "FAILED")
    assert told["Reason"].startswith("OperationalError: ")
    assert (told["StackId"], told["RequestId"], told["PhysicalResourceId"]) == ("stack", "r-1", "database-schema")


def test_a_failed_migration_by_hand_raises(enter: Enter, invoke: Callable[..., Any]) -> None:
    """There is no stack to tell."""
    enter(down=True)
    with pytest.raises(Exception, match="OperationalError"):
        invoke()


@pytest.mark.usefixtures("midway")
def test_a_migration_that_fails_midway_leaves_nothing(
    enter: Enter, invoke: Callable[..., Any], callbacks: Callbacks, database: Database, postgres: Postgres
) -> None:
    """All of it is one transaction."""
    enter()
    assert invoke(**CREATE, ResponseURL=callbacks.url)["status"] == "FAILED"
    assert "already exists" in callbacks.take()[0]["Reason"]
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert postgres.execute(tables, database=database.name) == []


def test_an_answer_to_cloudformation_is_never_too_long(
    invoke: Callable[..., Any], callbacks: Callbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses more than 4,096 bytes, and then waits for an hour; ids that are missing do not keep it back either."""
    sent: list[bytes] = []
    real = urllib.request.urlopen

    def fail() -> None:
        raise LookupError("\U0001f4a5" * 5000)

    def listen(request: urllib.request.Request, **arguments: Any) -> Any:
        assert isinstance(request.data, bytes)
        sent.append(request.data)
        return real(request, **arguments)

    monkeypatch.setattr(migrate, "_migrate", fail)
    monkeypatch.setattr(urllib.request, "urlopen", listen)
    invoke(RequestType="Create", ResponseURL=callbacks.url)
    assert callbacks.take()[0]["Status"] == "FAILED"
    assert len(sent[0]) < 4096


def test_delete_is_answered_without_a_database(enter: Enter, invoke: Callable[..., Any], callbacks: Callbacks) -> None:
    """And so drops nothing: a schema outlives its stack."""
    enter(down=True)
    answer = invoke(**(CREATE | {"RequestType": "Delete"}), ResponseURL=callbacks.url)
    assert (answer["status"], callbacks.take()[0]["Status"]) == ("SUCCESS", "SUCCESS")
    assert db.status()["totals"]["connects"] == 0


def test_a_migration_answers_for_wrong_settings_too(
    invoke: Callable[..., Any], callbacks: Callbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all failures the likeliest at a first deploy."""
    monkeypatch.setattr(process, "_runtime", None)
    invoke(**CREATE, ResponseURL=callbacks.url)
    assert callbacks.take()[0]["Reason"].startswith("ConfigurationError: no database: set DB_SECRET_ID")


def test_the_migrations_are_found_from_the_handler() -> None:
    """Wherever the package is laid."""
    assert list(migrate.VERSIONS.glob("*.py"))
