"""How the suites of faults go through every door: which of them, which in the slow run alone, and what that needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import NullPool, create_engine

from db.migrations.operations import create_prologue_function
from devkit.plugin import Door

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import URL

PROXIES = (Door.PGBOUNCER, Door.RDS_PROXY)
# What else pools transactions, where it can differ from PgBouncer 1.18: prepared statements, and when it gives away.
POOLERS = (Door.PGBOUNCER_NEWEST, Door.STRICT)


def through(*doors: Door, slow: Collection[Door] = ()) -> pytest.MarkDecorator:
    """Run a test that takes ``door`` by these alone, and by the ``slow`` ones not in `make test`."""
    marks = {door: [pytest.mark.slow] for door in slow}
    return pytest.mark.parametrize(
        "door", [pytest.param(door, marks=marks.get(door, []), id=door) for door in doors], indirect=True
    )


def make_prologue(owner: URL | str, *, used_by: str) -> None:
    """What ``DB_PROXY=rds-proxy`` needs of a migration, in the database of ``owner``."""
    engine = create_engine(owner, poolclass=NullPool)
    with engine.begin() as conn:
        create_prologue_function(Operations(MigrationContext.configure(conn)), used_by=[used_by])
