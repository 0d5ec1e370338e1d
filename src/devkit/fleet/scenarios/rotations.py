"""Passwords that change under load, as Secrets Manager's rotation functions change them."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import boto3
from psycopg import sql

from devkit.fleet.finding import OURS, PLAIN, Finding, failures, nothing_lost
from devkit.fleet.fleet import under_load
from devkit.fleet.run import function, run
from devkit.fleet.site import DATABASE, Site
from devkit.servers.aws import LocalAws
from devkit.servers.passwords import new_password
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.fleet.environment import Environment
    from devkit.fleet.fleet import Pause
    from devkit.fleet.fork_server import ForkServer
    from devkit.servers.ports import Endpoint

# Sessions end soon, so that most invocations have to enter anew: a connection that works needs no password.
IDLE_SESSION_S = 0.3
PAUSE_S = 0.8
BETWEEN_S = 0.5


class Entered(Protocol):
    """A site, and what its logins enter by."""

    passwords: dict[str, str]


class Rotation:
    """The secret of ``login``, and the steps of its rotation."""

    engine = "postgres"  # as RDS calls it

    def __init__(
        self, login: str, site: Entered, server: Any, aws: LocalAws, *, endpoint: Endpoint | None = None
    ) -> None:
        reached: Endpoint = endpoint or server
        self.secret_id = f"fleet-{login}-{uuid.uuid4().hex}"
        self._place = {"engine": self.engine, "host": reached.host, "port": reached.port, "dbname": DATABASE}
        self._server = server
        self._logins = (login, f"{login}_b")
        variables = aws.environment()
        self._client = boto3.client(
            "secretsmanager",
            endpoint_url=aws.endpoint,
            region_name=variables["AWS_REGION"],
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        )
        aws.put_secret(self.secret_id, self._value(login, site.passwords[login]))
        self._add(self._logins[1])

    def stage(self) -> str:
        """createSecret: AWSPENDING holds a new password. Gives its version."""
        return self._stage(self._value(self._logins[0], new_password()))

    def apply(self, version: str) -> None:
        """setSecret: the database takes the new password, and no longer the one of AWSCURRENT."""
        found = self._client.get_secret_value(SecretId=self.secret_id, VersionId=version)
        self._set(self._logins[0], json.loads(found["SecretString"])["password"])

    def finish(self, version: str) -> None:
        """finishSecret: AWSCURRENT moves."""
        names = {"SecretId": self.secret_id}
        current = self._client.get_secret_value(**names, VersionStage="AWSCURRENT")["VersionId"]
        move = self._client.update_secret_version_stage
        move(**names, VersionStage="AWSCURRENT", MoveToVersionId=version, RemoveFromVersionId=current)
        move(**names, VersionStage="AWSPENDING", RemoveFromVersionId=version)

    def apply_unseen(self) -> str:
        """setSecret by a function that stages nothing which others may read. Gives the password."""
        password = new_password()
        self._set(self._logins[0], password)
        return password

    def finish_unseen(self, password: str) -> None:
        """Its finishSecret."""
        self.finish(self._stage(self._value(self._logins[0], password)))

    def alternate(self) -> None:
        """A rotation to the other of two users. The first one keeps its password, until the next time."""
        first, second = self._logins
        self._logins = second, first
        self.finish_unseen(self.apply_unseen())

    def _value(self, login: str, password: str) -> dict[str, Any]:
        return {**self._place, "username": login, "password": password}

    def _stage(self, value: dict[str, Any]) -> str:
        stored = self._client.put_secret_value(
            SecretId=self.secret_id,
            SecretString=json.dumps(value),
            VersionStages=["AWSPENDING"],
            ClientRequestToken=str(uuid.uuid4()),
        )
        return str(stored["VersionId"])

    def _add(self, login: str) -> None:
        """The other user, who may do what the first one may."""
        self._server.create_role(login, new_password())
        self._server.execute(sql.SQL("GRANT {} TO {}").format(*(sql.Identifier(name) for name in self._logins)))

    def _set(self, login: str, password: str) -> None:
        self._server.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(login), sql.Literal(password)))


def _rotate(rotated: Sequence[Rotation], window_s: float) -> None:
    versions = [one.stage() for one in rotated]
    for one, version in zip(rotated, versions, strict=True):
        one.apply(version)
    time.sleep(window_s)
    for one, version in zip(rotated, versions, strict=True):
        one.finish(version)


def _rotate_unseen(rotated: Sequence[Rotation], window_s: float) -> None:
    """For ``window_s`` no password that a function can get works."""
    passwords = [one.apply_unseen() for one in rotated]
    time.sleep(window_s)
    for one, password in zip(rotated, passwords, strict=True):
        one.finish_unseen(password)


def rotate(rotated: Sequence[Rotation], *, rotations: int, alternations: int, window_s: float) -> None:
    """Single-user rotations; in every other one AWSPENDING is not to be read. Then some between two users."""
    for number in range(rotations):
        time.sleep(BETWEEN_S)
        (_rotate_unseen if number % 2 else _rotate)(rotated, window_s)
    for _ in range(alternations):
        time.sleep(BETWEEN_S)
        for one in rotated:
            one.alternate()
    time.sleep(BETWEEN_S)


def pause(_: Environment, until: Pause) -> None:
    until.wait(until.draw.uniform(0, PAUSE_S))


def rotation(
    fork_server: ForkServer,
    *,
    environments: int = 10,
    rotations: int = 10,
    alternations: int = 3,
    window_s: float = 2.0,
) -> Finding:
    """Single-user rotations; in every other one AWSPENDING is not to be read. Then some between two users."""
    with Postgres(settings={"idle_session_timeout": f"{IDLE_SESSION_S:g}s"}) as server, LocalAws() as aws:
        site = Site(server)
        rotated = {name: Rotation(name, site, server, aws) for name in (OURS, PLAIN)}
        fleets = {
            name: (
                function(
                    name,
                    site,
                    server,
                    timeout_s=10,
                    variables={**aws.environment(), "DB_SECRET_ID": one.secret_id},
                ),
                "run",
            )
            for name, one in rotated.items()
        }
        with run(fleets, size=environments, server=lambda: server, fork_server=fork_server) as running:
            with under_load([*running.fleets.values()], pause):
                rotate([*rotated.values()], rotations=rotations, alternations=alternations, window_s=window_s)
            outcomes = running.outcomes()
            asked = aws.count("GetSecretValue")
    return Finding(
        name="rotation",
        title=(
            f"{rotations} rotations, single-user with a window of {window_s:g} s, and {alternations} between users, "
            "under load, deadline 10 s"
        ),
        target="0 failed",
        parts={"0 failed": outcomes[OURS].failed == 0, **nothing_lost(outcomes[OURS])},
        figures={label: failures(outcome) for label, outcome in outcomes.items()},
        outcomes=outcomes,
        curves=running.curves(),
        notes={"GetSecretValue": asked},
    )
