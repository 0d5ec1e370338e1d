"""Rotations as Secrets Manager's functions do them: real roles, real versions, each of the steps in between."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from sqlalchemy import exc, text

import db
from db.environment import process
from db.settings import Settings
from tests.doors import make_prologue

from .conftest import Lines, backend_pid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database, MakeDoor, MakeLambdaContext, PutSecret
    from devkit.servers.aws import LocalAws
    from devkit.servers.postgres import Postgres


# The server's words, PgBouncer's and RDS Proxy's.
REFUSED = r"(password|SASL) authentication failed|The password that was provided for the role \w+ is wrong"


class Rotation:
    """The four steps of a rotation function, for the role ``app`` of ``database``, which is reached by ``door``."""

    def __init__(self, postgres: Postgres, database: Database, put: PutSecret, door: MakeDoor) -> None:
        self._postgres, self._database, self._put = postgres, database, put
        self._proxy, self._endpoint = door.proxy, door()
        self.secret_id = f"rotation/{uuid.uuid4().hex}"
        self.client = boto3.client("secretsmanager")
        self.put(database.app_password)

    def value(self, password: str, username: str | None = None) -> dict[str, object]:
        reached = self._database.through(self._endpoint)
        place = {"engine": "postgres", "host": reached.host, "port": reached.port, "dbname": reached.name}
        return {**place, "username": username or reached.app, "password": password}

    def use(self, **settings: Any) -> None:
        """Configure the layer for it."""
        db.configure(Settings(secret_id=self.secret_id, proxy=self._proxy, sslmode="disable", **settings))

    def put(self, password: str, username: str | None = None) -> None:
        self._put(self.secret_id, self.value(password, username))

    def create_secret(self, password: str) -> str:
        """AWSPENDING holds the new password; the database knows nothing yet."""
        version = self.client.put_secret_value(
            SecretId=self.secret_id,
            SecretString=json.dumps(self.value(password)),
            VersionStages=["AWSPENDING"],
            ClientRequestToken=str(uuid.uuid4()),
        )
        return version["VersionId"]

    def set_secret(self, password: str) -> None:
        """The database takes the new password, and no longer the one that AWSCURRENT holds."""
        self._postgres.execute(f"ALTER ROLE {self._database.app} PASSWORD '{password}'")

    def finish_secret(self, version: str) -> None:
        """AWSCURRENT moves, and nothing is pending any more."""
        current = self.client.get_secret_value(SecretId=self.secret_id, VersionStage="AWSCURRENT")["VersionId"]
        move = self.client.update_secret_version_stage
        move(SecretId=self.secret_id, VersionStage="AWSCURRENT", MoveToVersionId=version, RemoveFromVersionId=current)
        move(SecretId=self.secret_id, VersionStage="AWSPENDING", RemoveFromVersionId=version)


@pytest.fixture
def rotation(door: MakeDoor, postgres: Postgres, database: Database, secret: PutSecret) -> Iterator[Rotation]:
    """By each door: what stands there refuses in words of its own, or in place of the first statement."""
    make_prologue(database.url("owner"), used_by=database.app)
    made = Rotation(postgres, database, secret, door)
    made.use()
    yield made
    db.dispose()
    process.DEFAULT._runtime = None


def connect_anew() -> None:
    db.dispose()
    backend_pid()


def test_every_step_of_a_rotation_can_be_connected_in(rotation: Rotation) -> None:
    """Before, with the new password staged, with it in the database alone, and when all is done."""
    connect_anew()
    version = rotation.create_secret("second")
    connect_anew()
    rotation.set_secret("second")
    connect_anew()
    rotation.finish_secret(version)
    connect_anew()


def test_a_cold_start_in_the_middle_of_a_rotation_succeeds(rotation: Rotation) -> None:
    """It has no copy, and AWSCURRENT is what the database no longer takes."""
    rotation.create_secret("second")
    rotation.set_secret("second")
    backend_pid()


@pytest.mark.slow
def test_ten_rotations_under_load_fail_nothing(rotation: Rotation) -> None:
    """Connections are opened all the while, in two threads; each rotation pauses between its steps."""
    done, failures = threading.Event(), list[BaseException]()
    opened: list[int] = []

    def load() -> None:
        while not done.is_set():
            try:
                with db.engine().connect() as conn:
                    opened.append(conn.scalar(text("SELECT 1")) or 0)
            except Exception as error:  # noqa: BLE001 - what the test asks for
                failures.append(error)

    def until_one_is_in() -> None:
        # Until both passwords are the same one, nobody gets in. On a busy machine that is most of the time.
        before = len(opened)
        while len(opened) <= before and not failures:
            done.wait(0.001)

    rotation.use(pool="null")
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        until_one_is_in()
        for number in range(10):
            version = rotation.create_secret(f"password-{number}")
            rotation.set_secret(f"password-{number}")
            done.wait(0.1)
            rotation.finish_secret(version)
            until_one_is_in()
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    assert failures == []
    assert len(opened) > 10


def test_a_user_that_is_cloned_takes_over(rotation: Rotation, postgres: Postgres, database: Database) -> None:
    """Alternating users: the version brings another name, and the old one still works for who has it."""
    clone = f"{database.app}_clone"
    postgres.create_role(clone, "clones")
    try:
        held = backend_pid()
        rotation.put("clones", clone)
        assert backend_pid() == held
        rotation.set_secret("revoked")
        db.dispose()
        with db.read() as conn:
            assert conn.scalar(text("SELECT current_user")) == clone
    finally:
        db.dispose()
        postgres.execute(f"DROP ROLE {clone}")


def test_what_is_not_staged_is_waited_for(rotation: Rotation, lines: Lines) -> None:
    """A password that somebody changed by hand, with the secret a moment behind."""
    rotation.set_secret("by hand")

    def catch_up() -> None:
        give_up_at = time.monotonic() + 10
        while not lines.of("connect waits") and time.monotonic() < give_up_at:
            time.sleep(0.01)
        rotation.put("by hand")

    catches_up = threading.Thread(target=catch_up)
    catches_up.start()
    backend_pid()
    catches_up.join()
    (connect,) = lines.of("connect")
    assert connect["attempts"] > 1
    assert lines.of("connect waits")[0]["attempt"] == 1


def test_a_secret_that_is_wrong_ends_in_the_servers_error(rotation: Rotation, local_aws: LocalAws) -> None:
    """After one look past every cache and one at what is staged, where there is no time to wait."""
    rotation.put("mistaken")
    rotation.use(connect_wait_s=0)
    before = local_aws.count("GetSecretValue")
    with pytest.raises(exc.OperationalError, match=REFUSED):
        backend_pid()
    assert local_aws.count("GetSecretValue") - before == 3


@pytest.mark.slow
def test_a_secret_that_stays_wrong_is_not_asked_for_without_end(
    rotation: Rotation, lambda_context: MakeLambdaContext, local_aws: LocalAws, lines: Lines
) -> None:
    """The invocation's time ends it, and the log has two lines for all of it at the level that is on."""
    rotation.put("mistaken")

    @db.invocation
    def handler(_event: Any, _context: Any) -> None:
        backend_pid()

    before = local_aws.count("GetSecretValue")
    with pytest.raises(exc.OperationalError, match=REFUSED):
        handler({}, lambda_context(remaining_s=2))
    assert local_aws.count("GetSecretValue") - before < 100
    (failed,) = lines.of("connect failed")
    assert failed["attempts"] > 1
    assert len([line for line in lines.of("connect waits") if line["levelname"] == "WARNING"]) == 1


def test_a_password_that_cannot_be_fetched_again_says_why(rotation: Rotation, local_aws: LocalAws) -> None:
    """The secret is gone, and what is cached is refused: mending the secret comes first."""
    backend_pid()
    db.dispose()
    rotation.set_secret("second")
    local_aws.delete_secret(rotation.secret_id)
    with pytest.raises(db.CredentialsError, match="there is no such secret") as caught:
        backend_pid()
    assert re.search(REFUSED, str(caught.value.__cause__))


def test_a_password_that_still_works_is_used_though_the_secret_is_gone(rotation: Rotation, local_aws: LocalAws) -> None:
    """Likewise where it is denied, or Secrets Manager is down."""
    backend_pid()
    local_aws.delete_secret(rotation.secret_id)
    connect_anew()
