"""The custom resource that migrates: CloudFormation is answered, whatever happens."""

from __future__ import annotations

import logging
import secrets as tokens
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools import Logger

import db
from db.environment import process
from devkit.app.cloudformation import Callbacks
from devkit.app.project import Project
from devkit.servers.passwords import new_password
from devkit.servers.postgres import Postgres
from handlers import migrate

from .conftest import Enter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.plugin import Database, MakeLambdaContext, PutSecret

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
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``releases("a1", "a2")``: from here on the function is that of a release with these revisions."""

    def deploy(*revisions: str) -> None:
        folder = tmp_path / "-".join(revisions)
        folder.mkdir(exist_ok=True)
        for revision, after in zip(revisions, [None, *revisions], strict=False):
            text = MADE.replace('"a1"', repr(revision)).replace("None", repr(after)).replace("made", f"made_{revision}")
            (folder / f"{revision}.py").write_text(text)
        monkeypatch.setattr(migrate, "VERSIONS", folder)

    return deploy


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """What the function logs from WARNING on."""
    records: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Handler(logging.WARNING)
    # The function's own, and the one that Powertools calls below its Logger.
    loggers = migrate.logger, logging.getLogger(Logger().name)
    for logger in loggers:
        logger.addHandler(handler)
    yield records
    for logger in loggers:
        logger.removeHandler(handler)


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


def update(revision: str, previous: str) -> dict[str, Any]:
    """What CloudFormation sends for a new revision, and with the two exchanged when it takes that back."""
    properties = {"ResourceProperties": {"Revision": revision}, "OldResourceProperties": {"Revision": previous}}
    return CREATE | properties | {"RequestType": "Update", "PhysicalResourceId": "database-schema"}


def test_an_update_that_is_taken_back_succeeds(
    enter: Enter,
    invoke: Callable[..., Any],
    callbacks: Callbacks,
    releases: Callable[..., None],
    logged: list[logging.LogRecord],
) -> None:
    """A later resource has failed, and the older code is asked to update; FAILED would be the stack's end."""
    enter()
    releases("a1", "a2")
    assert invoke(**CREATE, ResponseURL=callbacks.url)["after"] == "a2"
    releases("a1")
    answer = invoke(**update("a1", previous="a2"), ResponseURL=callbacks.url)
    assert (answer["status"], answer["before"], answer["after"]) == ("SUCCESS", "a2", "a2")
    _, told = callbacks.take()
    assert (told["Status"], told["Reason"]) == (
        "SUCCESS",
        "the schema is at a2, ahead of this code: nothing was changed",
    )
    assert [(line.levelname, line.getMessage()) for line in logged] == [("WARNING", told["Reason"])]


def test_a_revision_that_the_code_does_not_know_is_a_failure_in_plain_words(
    enter: Enter, invoke: Callable[..., Any], callbacks: Callbacks, releases: Callable[..., None]
) -> None:
    """It is none that this code was rolled back from: what the code would add has not been run."""
    enter()
    releases("a1", "a2")
    invoke(**CREATE, ResponseURL=callbacks.url)
    releases("a1", "b2")
    invoke(**update("b2", previous="a1"), ResponseURL=callbacks.url)
    _, told = callbacks.take()
    assert told["Status"] == "FAILED"
    assert told["Reason"].startswith("ConfigurationError: the schema is at revision a2, which has no file among")


def test_a_way_to_cloudformation_that_is_missing_is_told_to_the_log(
    enter: Enter, invoke: Callable[..., Any], releases: Callable[..., None], logged: list[logging.LogRecord]
) -> None:
    """In one line, before anything else: the stack itself says nothing until its ServiceTimeout is over."""
    enter()
    releases("a1")
    with pytest.raises(urllib.error.URLError):
        invoke(**CREATE, ResponseURL="http://localhost:1/callback?X-Amz-Signature=0")
    (line,) = logged
    assert line.levelname == "ERROR"
    assert "waits for it until the resource's ServiceTimeout: no way to localhost from" in line.getMessage()
    assert "Signature" not in line.getMessage()


def test_an_address_that_drops_what_is_sent_is_no_way() -> None:
    """As S3's does from a subnet without an endpoint for it: nothing refuses, and nothing answers."""
    with socket.socket() as listening, socket.socket() as queued:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        queued.connect(listening.getsockname())  # a queue of one is full: the next SYN is dropped
        assert not migrate._reaches(f"http://127.0.0.1:{listening.getsockname()[1]}/")
    assert not migrate._reaches("https://nowhere.invalid/")


def test_an_answer_to_cloudformation_is_never_too_long(
    invoke: Callable[..., Any], callbacks: Callbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses more than 4,096 bytes, and then waits for an hour; ids that are missing do not keep it back either."""
    sent: list[bytes] = []
    real = urllib.request.urlopen

    def fail(_event: object, _context: object) -> None:
        raise ImportError("\U0001f4a5" * 5000 + " ".join(migrate.PARAMETERS))

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
    monkeypatch.setattr(process.DEFAULT, "_runtime", None)
    invoke(**CREATE, ResponseURL=callbacks.url)
    assert callbacks.take()[0]["Reason"].startswith("ConfigurationError: no database: set DB_SECRET_ID")


def test_the_migrations_are_found_from_the_handler() -> None:
    """Wherever the package is laid."""
    assert list(migrate.VERSIONS.glob("*.py"))


def test_the_roles_are_made_where_there_is_a_master(
    invoke: Callable[..., Any],
    releases: Callable[..., None],
    postgres: Postgres,
    secret: PutSecret,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the migration, which runs as one of them: on a server that knows the master and nobody else."""
    suffix = tokens.token_hex(4)
    roles = {role: f"{role}_{suffix}" for role in ("master", "owner", "app", "report")}
    passwords = {role: new_password() for role in roles}
    for role, name in roles.items():
        variable = "DB_SECRET_ID" if role == "owner" else f"{role.upper()}_SECRET_ID"
        monkeypatch.setenv(variable, secret(name, {"username": name, "password": passwords[role]}))
    for variable, value in {"HOST": postgres.host, "PORT": str(postgres.port), "NAME": f"made_{suffix}"}.items():
        monkeypatch.setenv(f"DB_{variable}", value)
    postgres.create_role(roles["master"], passwords["master"], options="LOGIN CREATEROLE CREATEDB")
    releases("a1")
    try:
        db.configure()
        assert [invoke()["after"] for _ in range(2)] == ["a1", "a1"]
        owned = "SELECT tableowner FROM pg_tables WHERE tablename = 'made_a1'"
        assert postgres.execute(owned, database=f"made_{suffix}") == [(roles["owner"],)]
        assert postgres.execute("SELECT count(*) FROM pg_roles WHERE rolname LIKE %s", [f"%{suffix}"]) == [(4,)]
    finally:
        db.dispose()
        process.DEFAULT._runtime = None
        postgres.drop_database(f"made_{suffix}")
        for role in ("owner", "app", "report", "master"):
            postgres.execute(f"DROP ROLE {roles[role]}")


def test_with_tokens_the_roles_are_made_by_their_names(
    invoke: Callable[..., Any],
    callbacks: Callbacks,
    releases: Callable[..., None],
    secret: PutSecret,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the template says it: a master's secret and no other. The migration enters as the owner, with a token."""
    put = secret("rds-master", {"username": "master", "password": (password := new_password())})
    with Postgres() as rds:
        rds.create_role("master", password, options="LOGIN CREATEROLE CREATEDB")
        rds.execute("CREATE ROLE rds_iam ADMIN master")
        # As RDS lets them in, but for the signature, which only it can check.
        access = Path(str(rds.execute("SHOW hba_file")[0][0]))
        access.write_text(f"host all +rds_iam 127.0.0.1/32 trust\n{access.read_text()}")
        rds.execute("SELECT pg_reload_conf()")
        said = template_variables(MasterSecretId=put, DatabaseAuth="iam", DatabaseHost=rds.host, DatabaseName="orders")
        for name, value in {**said, "DB_PORT": str(rds.port), "DB_SECRET_ID": ""}.items():
            monkeypatch.setenv(name, value)
        releases("a1")
        try:
            db.configure()
            invoke(**CREATE, ResponseURL=callbacks.url)
            (told,) = callbacks.take()
            assert (told["Status"], told["Data"]["after"]) == ("SUCCESS", "a1")
            owned = "SELECT tableowner FROM pg_tables WHERE tablename = 'made_a1'"
            assert rds.execute(owned, database="orders") == [("owner",)]
            assert invoke()["after"] == "a1"
            rds.execute("REVOKE rds_iam FROM owner, app, report")
            rds.execute("DROP ROLE rds_iam")
            invoke(**CREATE, ResponseURL=callbacks.url)
        finally:
            db.dispose()
            process.DEFAULT._runtime = None
    (told,) = callbacks.take()
    assert told["Reason"] == (
        "ConfigurationError: DB_AUTH=iam: the server has no role rds_iam, so it is none of RDS, and takes no tokens"
        " (in the template: DatabaseAuth)"
    )


def template_variables(**parameters: str) -> dict[str, str]:
    """Those of the function, as the template has them with these values."""
    project = Project.find(Path(__file__))
    (function,) = (one for one in project.functions(parameters).values() if one.handler == "handlers.migrate.handler")
    return {
        name: value for name, value in function.environment.items() if name.startswith("DB_") or name.endswith("_ROLE")
    } | {"MASTER_SECRET_ID": function.environment["MASTER_SECRET_ID"]}
