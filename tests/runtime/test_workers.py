"""Managed Instances: an environment whose events are served by processes, each with connections of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from devkit.lambda_runtime.managed_and_snapstart import BareEnvironment

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

WORKERS = 3

# Each invocation waits for the others, so that every worker serves one.
FUNCTION = """
import os, pathlib, time

import db
from sqlalchemy import text

@db.invocation
def handler(event, context):
    folder = pathlib.Path(event["folder"])
    with db.begin() as tx:
        (folder / str(os.getpid())).touch()
        while len(list(folder.iterdir())) < event["workers"]:
            time.sleep(0.01)
        return os.getpid(), tx.execute(text("SELECT pg_backend_pid()")).scalar()
"""


def test_each_worker_has_one_connection_and_keeps_it(database: Database, postgres: Postgres, tmp_path: Path) -> None:
    """So an environment holds as many as it has workers; and none is left when it is shut down."""
    (tmp_path / "function.py").write_text(FUNCTION)
    answers = []
    with (
        BareEnvironment(
            handler="function.handler",
            environment={"DB_URL": database.url()},
            code=[tmp_path],
            workers=WORKERS,
            timeout_s=30,
        ) as environment,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        for folder in (tmp_path / "first", tmp_path / "second"):
            folder.mkdir()
            event = {"folder": str(folder), "workers": WORKERS}
            answers.append({tuple(answer.payload) for answer in pool.map(environment.invoke, [event] * WORKERS)})
        assert answers[0] == answers[1]
        assert {backend for _, backend in answers[0]} == set(postgres.connections(database.name, user=database.app))
        assert len(answers[0]) == WORKERS
        assert environment.api.extensions == ["serverless-data-access"]
    assert sum("database shutdown" in line for line in environment.logs) == WORKERS
    assert postgres.all_left(database.name, user=database.app)
