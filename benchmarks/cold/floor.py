"""Read one row with SQLAlchemy and psycopg, and nothing else: what nobody who stands on both can be below.

It lies in this project's layer, so its imports are as quick. It is told where the database is, and asks for no secret.
"""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import create_engine, text

ROW = text("SELECT hits FROM notes WHERE id = :id")
engine = create_engine(os.environ["FLOOR_URL"])


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    with engine.connect() as connection:
        return {"hits": connection.execute(ROW, {"id": event["id"]}).scalar_one()}
