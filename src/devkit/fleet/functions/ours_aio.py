"""``ours`` as a coroutine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

import db
from db import aio

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_INSERT = text("INSERT INTO written (id) VALUES (:id)")
_SELECT = text("SELECT id FROM written WHERE id = :id")


async def look(conn: AsyncConnection, name: str) -> None:
    (await conn.execute(_SELECT, {"id": name})).all()


async def insert(tx: AsyncConnection, name: str) -> str:
    await tx.execute(_INSERT, {"id": name})
    return name


async def write(tx: AsyncConnection, name: str) -> str:
    await insert(tx, name)
    return str((await tx.execute(_SELECT, {"id": name})).scalars().first())


@db.invocation
async def handler(event: dict[str, Any], _context: Any) -> str | None:
    name = event["id"]
    match event["work"]:
        case "nothing":
            aio.engine()  # what the plain function has from its module
            return None
        case "run":
            return await aio.run(write, name)
        case "once":
            return str(await aio.once(name).run(write, name))
        case "read, then run" | "read, then once":
            async with aio.read() as conn:
                await look(conn, name)
    if event["work"] == "read, then once":
        return str(await aio.once(name).run(insert, name))
    return await aio.run(insert, name)
