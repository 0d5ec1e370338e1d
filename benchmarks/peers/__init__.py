"""The systems side by side, each written as its own documents tell people to.

A worker imports the module of its own peer only, so none pays for what another loads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .peer import Peer


def peers() -> list[type[Peer]]:
    """Every peer, in the order of the tables."""
    from .ours import Ours, OursWithoutPool
    from .with_asyncpg import AsyncPg
    from .with_aws_wrapper import AwsWrapper
    from .with_psycopg import Psycopg
    from .with_sqlalchemy import SqlAlchemy, SqlAlchemyNullPool, SqlAlchemyPrePing, SqlAlchemyPsycopgPool

    return [
        Ours,
        OursWithoutPool,
        SqlAlchemyPrePing,
        SqlAlchemy,
        SqlAlchemyPsycopgPool,
        SqlAlchemyNullPool,
        AwsWrapper,
        Psycopg,
        AsyncPg,
    ]
