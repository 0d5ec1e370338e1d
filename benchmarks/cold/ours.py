"""Read one row with `db`: the README's handler. Built as ``handlers/first_row.py`` by this project's makefiles."""

from __future__ import annotations

from typing import Any

import db  # isort: skip - where whoever installs it has it, and so where the README does
from sqlalchemy import text

ROW = text("SELECT hits FROM notes WHERE id = :id")


@db.invocation
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    with db.read() as conn:
        return {"hits": conn.execute(ROW, {"id": event["id"]}).scalar_one()}
