"""The same function as SQLAlchemy's documents tell to write one: an engine of the module, with pre-ping.

The secret is read once, by boto3, while the module is loaded. Every kind of work is the one that there is, a
transaction.
"""

from __future__ import annotations

import json
import os
from typing import Any

from sqlalchemy import URL, create_engine, text

_INSERT = text("INSERT INTO written (id) VALUES (:id)")
_SELECT = text("SELECT id FROM written WHERE id = :id")
_SLEEP = text("SELECT pg_sleep(:seconds)")
_DRIVERS = {"postgres": "postgresql+psycopg", "mariadb": "mysql+pymysql"}


def _url() -> URL | str:
    if "DB_URL" in os.environ:
        return os.environ["DB_URL"]
    import boto3

    answer = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["DB_SECRET_ID"])
    secret = json.loads(answer["SecretString"])
    return URL.create(
        _DRIVERS[secret["engine"]],
        username=secret["username"],
        password=secret["password"],
        host=secret["host"],
        port=secret["port"],
        database=secret["dbname"],
    )


engine = create_engine(_url(), pool_pre_ping=True)


def handler(event: dict[str, Any], _context: Any) -> str | None:
    name = event["id"]
    if event["work"] == "nothing":
        return None
    with engine.begin() as conn:
        if event["work"] == "sleep":
            conn.execute(_SLEEP, {"seconds": event["seconds"]})
            return None
        conn.execute(_INSERT, {"id": name})
        return str(conn.execute(_SELECT, {"id": name}).scalars().first())
