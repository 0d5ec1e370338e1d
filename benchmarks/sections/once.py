"""Duplicates of many keys at once, while backends are killed. What ``db.once`` promises is counted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, make_url

import db
from benchmarks.place import Place
from benchmarks.series import Series
from db.migrations.operations import create_once_table
from devkit.fleet.once_storm import storm
from devkit.plugin import Database
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.plan import Plan
    from devkit.fleet.once_storm import Storm

PEER = "db.once"
WORK = "duplicates under kills"
KILL_EVERY_S = 0.02
WRONG_EFFECTS, WRONG_ANSWERS = "keys whose effect is not there once", "keys without the one answer"
MEASURES = ("keys", "callers of each", "backends killed", "calls made again", WRONG_EFFECTS, WRONG_ANSWERS)


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """The storm, once."""
    tell(f"once: {plan.once_duplicates} callers of each of {plan.once_keys} keys")
    with Postgres() as postgres, Place(postgres) as place:
        came = weathered(postgres, place, keys=plan.once_keys, duplicates=plan.once_duplicates)
    found = counted(came, keys=plan.once_keys, duplicates=plan.once_duplicates)
    return [Series(peer=PEER, work=WORK, measure=name, rounds=[[count]]) for name, count in found.items()]


def weathered(postgres: Postgres, place: Place, *, keys: int, duplicates: int) -> Storm:
    """What comes of a storm on the table of ``db.once`` in ``place``."""
    database = Database(
        host=place.host,
        port=place.port,
        name=place.name,
        owner=postgres.superuser,
        owner_password=postgres.password,
        app=place.user,
        app_password=place.password,
    )
    owner = create_engine(database.url("owner"))
    with owner.begin() as tx:
        create_once_table(Operations(MigrationContext.configure(tx)), used_by=[place.user])
    owner.dispose()
    db.configure(db.Settings(url=make_url(database.url()), pool_size=duplicates))
    logging.disable()  # each connection is a line or two
    try:
        return storm(postgres, database, keys=keys, duplicates=duplicates, kill_every_s=KILL_EVERY_S)
    finally:
        db.dispose()
        logging.disable(logging.NOTSET)


def counted(came: Storm, *, keys: int, duplicates: int) -> Mapping[str, int]:
    """``came`` as numbers, by the names in MEASURES."""
    names = [f"key {number}" for number in range(keys)]
    wrong_effects = sum(came.effects.get(name) != 1 for name in names)
    wrong_answers = sum(len(came.answers.get(name, ())) != 1 for name in names)
    counts = (keys, duplicates, came.kills, came.calls_again, wrong_effects, wrong_answers)
    return dict(zip(MEASURES, counts, strict=True))
