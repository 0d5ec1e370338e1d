"""A function written with this layer. ``event["work"]`` says with which of its units of work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

import db

if TYPE_CHECKING:
    from sqlalchemy import Connection

_INSERT = text("INSERT INTO written (id) VALUES (:id)")
_SELECT = text("SELECT id FROM written WHERE id = :id")
_SLEEP = text("SELECT pg_sleep(:seconds)")


def write(tx: Connection, name: str) -> str:
    tx.execute(_INSERT, {"id": name})
    return str(tx.execute(_SELECT, {"id": name}).scalars().first())


def insert(tx: Connection, name: str) -> str:
    tx.execute(_INSERT, {"id": name})
    return name


def sleep(tx: Connection, seconds: float) -> None:
    tx.execute(_SLEEP, {"seconds": seconds})


@db.invocation
def handler(event: dict[str, Any], _context: Any) -> str | None:
    name = event["id"]
    match event["work"]:
        case "nothing":
            db.engine()  # what the plain function has from its module
        case "run":
            return db.run(write, name)
        case "begin":
            with db.begin() as tx:
                return write(tx, name)
        case "once":
            return str(db.once(name).run(write, name))
        case "read, then run":
            with db.read() as conn:
                conn.execute(_SELECT, {"id": name}).all()
            return db.run(insert, name)
        case "read, then once":
            with db.read() as conn:
                conn.execute(_SELECT, {"id": name}).all()
            return str(db.once(name).run(insert, name))
        case "sleep, run":
            db.run(sleep, event["seconds"])
        case "sleep":
            with db.begin() as tx:
                tx.execute(_SLEEP, {"seconds": event["seconds"]})
    return None
