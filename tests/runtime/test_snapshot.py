"""SnapStart: one Init, a snapshot of it, and the environments that are restored from that."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from devkit.lambda_runtime.managed_and_snapstart import BareEnvironment
from devkit.servers.passwords import new_password

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database, PutSecret
    from devkit.servers.aws import LocalAws
    from devkit.servers.postgres import Postgres

# As the documentation of SnapStart advises, Init tries out what an invocation will do.
FUNCTION = """
import db
from snapshot_restore_py import register_after_restore
from sqlalchemy import text

@db.invocation
def handler(event, context):
    with db.begin() as tx:
        tx.execute(text("SELECT 1"))
    return db.status()["cold"]

handler({}, None)
"""
# A hook of the function's own, run before those of the layer, in which the old connection is opened once more.
BUSY = FUNCTION.replace("@db.invocation", "register_after_restore(lambda: handler({}, None))\n\n@db.invocation")

ASYNC = """
import db
from db import aio
from sqlalchemy import text

@db.invocation
async def handler(event, context):
    async with aio.begin() as tx:
        await tx.execute(text("SELECT 1"))
    return db.status()["cold"]

handler({}, None)
"""

# Two copies of one process, taken where Lambda takes its snapshot. The C library's fork() knows of no hooks, and so
# leaves Python in either copy as it was: with os.fork(), Python itself would seed `random` anew.
COPIES = """
import ctypes, json, os, random
from awslambdaric.lambda_runtime_hooks_runner import run_after_restore, run_before_snapshot
import db
from db.timing.backoff import Backoff
from db.errors import Verdict

@db.invocation
def handler(event, context):
    return db.status()["cold"]

handler({}, None)
run_before_snapshot()
for _ in range(2):
    if ctypes.PyDLL(None).fork() == 0:
        drawn = random.random()
        run_after_restore()
        delay_s = Backoff().delay_s(Verdict.RECONNECT, 1, left_s=60)
        print(json.dumps([drawn, delay_s, handler({}, None), handler({}, None)]), flush=True)
        os._exit(0)
    os.wait()
"""


def connection_events(lines: list[str]) -> list[str]:
    read: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    return [line["connection_event"] for line in read if "connection_event" in line]


@pytest.fixture(params=[FUNCTION, BUSY, ASYNC], ids=["at rest", "used by a hook", "async"])
def code(tmp_path: Path, request: pytest.FixtureRequest) -> list[Path]:
    (tmp_path / "function.py").write_text(request.param)
    return [tmp_path]


def test_a_snapshot_holds_no_connection_and_a_copy_opens_its_own(
    database: Database, postgres: Postgres, code: list[Path]
) -> None:
    """The server has none left before the snapshot; the first invocation is cold, and connects."""
    variables = {"DB_URL": database.url()}
    with BareEnvironment(
        handler="function.handler", environment=variables, code=code, snap_start=True, timeout_s=30
    ) as environment:
        assert "close" in connection_events(environment.logs)
        assert postgres.connections(database.name, user=database.app) == []
        environment.restore()
        assert [environment.invoke({}).payload for _ in range(2)] == [True, False]
        assert connection_events(environment.logs)[-1] == "connect"


def test_a_copy_asks_for_the_secret_anew(
    database: Database, postgres: Postgres, local_aws: LocalAws, secret: PutSecret, code: list[Path]
) -> None:
    """So a password that was rotated since the snapshot is never tried."""
    value = {"host": database.host, "port": database.port, "dbname": database.name, "username": database.app}
    name = f"snapshot-{uuid.uuid4()}"
    secret(name, {**value, "password": database.app_password})
    variables = {**local_aws.environment(), "DB_SECRET_ID": name}
    with BareEnvironment(
        handler="function.handler", environment=variables, code=code, snap_start=True, timeout_s=30
    ) as environment:
        rotated = new_password()
        postgres.execute(f"ALTER ROLE {database.app} PASSWORD '{rotated}'")
        secret(name, {**value, "password": rotated})
        environment.restore()
        assert environment.invoke({}).error is None
        assert "connect failed" not in connection_events(environment.logs)


def test_copies_draw_other_delays_and_begin_cold() -> None:
    """What was drawn before the restore is the same in both: they are copies."""
    variables = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "DB_URL": "sqlite://"}
    done = subprocess.run(
        [sys.executable, "-c", COPIES], env=variables, capture_output=True, text=True, check=True, timeout=60
    )
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert first[2:] == second[2:] == [True, False]


# What an application that primes imports and opens in its first event after a restore.
PRIMED = """
import sys
import db
from sqlalchemy import column, select, text, table

ONE = text("SELECT :id")
ALL = select(column("relname")).select_from(table("pg_class")).limit(1)
primed = db.prime((ONE, {"id": 0}), ALL)

@db.invocation
def handler(event, context):
    compiled, before = db.engine()._compiled_cache, set(sys.modules)
    known = len(compiled)
    with db.begin() as tx:
        tx.execute(ONE, {"id": 1}).all()
        tx.execute(ALL).all()
    return primed["compiled"], len(compiled) - known, sorted(set(sys.modules) - before)
"""


def test_a_copy_of_what_was_primed_connects_once_and_imports_nothing(
    database: Database, local_aws: LocalAws, secret: PutSecret, tmp_path: Path
) -> None:
    """Between the restore and the first rows: one connect, no statement compiled, no module loaded."""
    name = f"snapshot-{uuid.uuid4()}"
    value = {"host": database.host, "port": database.port, "dbname": database.name, "username": database.app}
    secret(name, {**value, "password": database.app_password})
    (tmp_path / "function.py").write_text(PRIMED)
    variables = {**local_aws.environment(), "DB_SECRET_ID": name}
    with BareEnvironment(
        handler="function.handler", environment=variables, code=[tmp_path], snap_start=True, timeout_s=30
    ) as environment:
        assert "connect" not in connection_events(environment.logs)
        environment.restore()
        assert environment.invoke({}).payload == [2, 0, []]
        assert connection_events(environment.logs).count("connect") == 1


ROLE_KEYS = """
import gc, json, os, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from awslambdaric.lambda_runtime_hooks_runner import run_after_restore, run_before_snapshot
import boto3
import db
from botocore.credentials import Credentials
from botocore.session import Session
from sqlalchemy import text

class RoleKeys(BaseHTTPRequestHandler):  # as Lambda hands them out where it does not put them into the environment
    def do_GET(self):
        asked = self.headers["Authorization"]
        keys = {"AccessKeyId": asked, "SecretAccessKey": "s", "Token": asked, "Expiration": "2099-01-01T00:00:00Z"}
        body = json.dumps(keys).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), RoleKeys)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://127.0.0.1:{server.server_port}/credentials"
os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "INIT"

@db.invocation
def handler(event, context):
    with db.begin() as tx:
        tx.execute(text("SELECT 1"))

handler({}, None)
boto3.client("sts")  # the function's own, and gone again
run_before_snapshot()
kept = [type(one).__name__ for one in gc.get_objects() if isinstance(one, (Credentials, Session))]
os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "COPY"
run_after_restore()
handler({}, None)
print(json.dumps([kept, boto3.DEFAULT_SESSION is not None and boto3.DEFAULT_SESSION.get_credentials().access_key]))
"""


def test_a_snapshot_holds_no_key_session_or_client(database: Database, local_aws: LocalAws, secret: PutSecret) -> None:
    """boto3's default session is the process's, and would keep the role's keys of Init in every copy."""
    name = f"snapshot-{uuid.uuid4()}"
    place = {"host": database.host, "port": database.port, "dbname": database.name}
    secret(name, {**place, "username": database.app, "password": database.app_password})
    given = {key: value for key, value in local_aws.environment().items() if not key.startswith("AWS_S")}
    given.pop("AWS_ACCESS_KEY_ID", None)
    variables = {**given, "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "DB_SECRET_ID": name}
    done = subprocess.run(
        [sys.executable, "-c", ROLE_KEYS], env=variables, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [[], "COPY"]
