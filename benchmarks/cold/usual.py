"""Read one row the usual way: Powertools fetches the secret, the ORM reads.

https://docs.aws.amazon.com/powertools/python/latest/utilities/parameters/#fetching-secrets
https://docs.sqlalchemy.org/en/21/orm/quickstart.html
Both at import, outside of the handler, as AWS advises:
https://docs.aws.amazon.com/lambda/latest/dg/best-practices.html#function-code
"""

from __future__ import annotations

import os
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities import parameters
from sqlalchemy import URL, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

logger = Logger()
secret: Any = parameters.get_secret(os.environ["DB_SECRET_ID"], transform="json")
engine = create_engine(
    URL.create(
        "postgresql+psycopg",
        username=secret["username"],
        password=secret["password"],
        host=secret["host"],
        port=secret["port"],
        database=secret["dbname"],
    ),
    pool_pre_ping=True,
)


class Base(DeclarativeBase):
    """The mapped classes."""


class Note(Base):
    """A row of ``notes``."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    hits: Mapped[int]


@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    with Session(engine) as session:
        return {"hits": session.get_one(Note, event["id"]).hits}
