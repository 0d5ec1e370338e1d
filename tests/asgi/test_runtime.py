"""FastAPI under Mangum in the real Lambda runtime."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from devkit.lambda_runtime.environment import LambdaEnvironment
from tests.asgi.test_mangum import api_v2

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

FUNCTION = """
from typing import Annotated

import db.asgi
from fastapi import Depends, FastAPI
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

PID = text("SELECT pg_backend_pid()")
Tx = Annotated[AsyncConnection, Depends(db.asgi.transaction, scope="function")]
PlainTx = Annotated[Connection, Depends(db.asgi.plain_transaction, scope="function")]

app = FastAPI(lifespan=db.asgi.lifespan)
app.add_middleware(db.asgi.Middleware)

@app.get("/async")
async def awaited(tx: Tx) -> int:
    return await tx.scalar(PID)

@app.get("/plain")
def plain(tx: PlainTx) -> int:
    return tx.scalar(PID)

handler = db.asgi.lambda_handler(app)
"""


def test_three_invocations_connect_once(tmp_path: Path, database: Database, postgres: Postgres) -> None:
    """For routes of either kind: a freeze in between changes nothing, and the environment's end closes both."""
    (tmp_path / "function.py").write_text(FUNCTION)
    environment = {"DB_URL": database.url()}
    with LambdaEnvironment(
        handler="function.handler", code=[tmp_path], environment=environment, timeout_s=30, name="asgi"
    ) as running:
        answers = []
        for path in ("/async", "/plain") * 3:
            answers.append(running.invoke(api_v2(path)))
            running.freeze()
            running.thaw()
    assert {answer.error for answer in answers} == {None}
    assert len({answer.payload["body"] for answer in answers}) == 2
    lines = [json.loads(line) for line in running.logs if '"connection_event"' in line]
    assert [line["connection_event"] for line in lines] == ["connect", "connect", "shutdown"]
    assert lines[-1]["closed"] == 2
    assert postgres.all_left(database.name, user=database.app)
