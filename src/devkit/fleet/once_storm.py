"""Duplicates of many keys at once, while connections are killed: what ``db.once`` promises, put to the test."""

from __future__ import annotations

import random
import secrets
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exc, text

import db

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from devkit.servers.database import Database
    from devkit.servers.postgres import Postgres

_TABLE = "CREATE TABLE once_storm (key text, token text); GRANT SELECT, INSERT ON once_storm TO {role}"
_INSERT = text("INSERT INTO once_storm VALUES (:key, :token)")
_BACKENDS = "FROM pg_stat_activity WHERE datname = %s AND usename = %s"
_KILL_ONE = f"SELECT pg_terminate_backend(pid) {_BACKENDS} ORDER BY random() LIMIT 1"
_CALLS = 100  # of one caller, before it counts as unanswered


@dataclass(frozen=True)
class Storm:
    """What came of it: for each key its effects and the different answers; calls that failed and were made again."""

    effects: dict[str, int]
    answers: dict[str, set[str]]
    kills: int
    calls_again: int


def storm(
    postgres: Postgres, database: Database, *, keys: int, duplicates: int, kill_every_s: float, seed: int = 0
) -> Storm:
    """Let ``duplicates`` callers at a time ask for each of ``keys`` keys, and kill a random backend again and again.

    ``db`` is configured for the role ``app`` of ``database``, with a pool of that size, and has the table of
    ``db.once``. A caller whose call fails calls again with the same key, as a queue or a browser does.
    """
    postgres.execute(_TABLE.format(role=database.app), database=database.name)
    names = [f"key {number}" for number in range(keys) for _ in range(duplicates)]
    answers: dict[str, set[str]] = defaultdict(set)
    calls_again = 0
    lock = threading.Lock()

    def ask(key: str) -> None:
        nonlocal calls_again
        for _ in range(_CALLS):
            try:
                answer = db.once(key).run(_effect, key)
            except (db.DbError, exc.SQLAlchemyError):
                with lock:
                    calls_again += 1
            else:
                with lock:
                    answers[key].add(answer)
                return

    over = threading.Event()
    killer = ThreadPoolExecutor(1)
    kills = killer.submit(_kill, postgres, database, over, every_s=kill_every_s, draw=random.Random(seed))  # noqa: S311
    with ThreadPoolExecutor(duplicates) as callers:
        list(callers.map(ask, names))
    over.set()
    killer.shutdown()
    counted = postgres.execute("SELECT key, count(*) FROM once_storm GROUP BY key", database=database.name)
    return Storm(dict(counted), dict(answers), kills.result(), calls_again)


def _effect(tx: Connection, key: str) -> str:
    token = secrets.token_hex(8)
    tx.execute(_INSERT, {"key": key, "token": token})
    return token


def _kill(postgres: Postgres, database: Database, over: threading.Event, *, every_s: float, draw: random.Random) -> int:
    kills = 0
    while not over.wait(every_s * draw.uniform(0.5, 1.5)):
        kills += len(postgres.execute(_KILL_ONE, [database.name, database.app]))
    return kills
