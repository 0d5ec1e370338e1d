"""``plain`` with an engine for the reader as well, which it reads by before it writes."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import create_engine, text

_INSERT = text("INSERT INTO written (id) VALUES (:id)")
_SELECT = text("SELECT id FROM written WHERE id = :id")

writer = create_engine(os.environ["DB_URL"], pool_pre_ping=True)
reader = create_engine(os.environ["READER_URL"], pool_pre_ping=True)


def handler(event: dict[str, Any], _context: Any) -> str | None:
    name = event["id"]
    if event["work"] == "nothing":
        return None
    with reader.connect() as conn:
        conn.execute(_SELECT, {"id": name}).all()
    with writer.begin() as conn:
        conn.execute(_INSERT, {"id": name})
    return str(name)
