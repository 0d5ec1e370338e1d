"""Tenants side by side on shared connections, in random order, with errors and kills in between."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, exc, make_url, text

import db
from db.migrations.operations import enable_tenant_rls
from db.settings import Settings
from devkit.plugin import Door
from devkit.servers.doors import USUAL
from tests.doors import POOLERS, make_prologue, through

from .conftest import Use

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeDoor, MakePgBouncer

TENANTS = [f"tenant-{n}" for n in range(5)]
THREADS = 4
STEPS = 834  # each thread; by the three usual doors they are 10,000
FEW_STEPS = 80  # behind the other poolers: nearly all of what they may mix up comes up among them
SEEN = text("SELECT DISTINCT tenant_id FROM belongings")
ADD = text("INSERT INTO belongings (tenant_id) VALUES (:tenant)")
KILL = text("SELECT pg_terminate_backend(pg_backend_pid())")


class Interrupted(Exception):  # noqa: N818 - by the step itself
    """A block that ends in an error of its own."""


@pytest.fixture
def shared(door: MakeDoor, use: Use, database: Database, pgbouncer: MakePgBouncer) -> None:
    """A row of each tenant in ``belongings``; two connections for four threads, or two of a pooler's for all.

    RDS Proxy pools as well, so that one stands behind its words.
    """
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE belongings (tenant_id text NOT NULL)"))
        enable_tenant_rls(Operations(MigrationContext.configure(tx)), "belongings")
        tx.execute(text(f"GRANT ALL ON belongings TO {database.app}"))
    for tenant in TENANTS:
        with db.begin(tenant=tenant) as tx:
            tx.execute(ADD, {"tenant": tenant})
    if door.name is Door.DIRECT:
        use(pool_size=2, pool_timeout_s=60)
        return
    make_prologue(database.url("owner"), used_by=database.app)
    pooler = pgbouncer(default_pool_size=2) if door.name is Door.RDS_PROXY else None
    url = make_url(database.through(door(upstream=pooler, default_pool_size=2)).url())
    db.configure(Settings(url=url, sslmode="disable", proxy=door.proxy, pool_size=THREADS, pool_timeout_s=60))


def seen_by(conn: Connection) -> set[str]:
    return set(conn.execute(SEEN).scalars())


def own(tx: Connection, tenant: str) -> set[str]:
    tx.execute(ADD, {"tenant": tenant})
    return seen_by(tx)


def others(tx: Connection, tenant: str) -> set[str]:
    """An attempt to write another's row, in a savepoint; then what is seen."""
    other = next(name for name in TENANTS if name != tenant)
    with pytest.raises(exc.ProgrammingError, match="row-level security"), tx.begin_nested():
        tx.execute(ADD, {"tenant": other})
    return seen_by(tx)


def broken(tx: Connection, _tenant: str) -> set[str]:
    seen = seen_by(tx)
    tx.execute(text("SELECT 1 / 0"))
    return seen


def killed(tx: Connection, _tenant: str) -> set[str]:
    seen = seen_by(tx)
    tx.execute(KILL)
    return seen


def raising(tx: Connection, _tenant: str) -> set[str]:
    seen_by(tx)
    raise Interrupted


def step(choose: random.Random) -> tuple[set[str], set[str]]:
    """What one unit of work saw, and what it may have seen."""
    tenant = choose.choice(TENANTS)
    kind = choose.choices(
        ["own", "others", "read", "snapshot", "fetch", "nobody", "broken", "raising", "killed"],
        [20, 10, 20, 10, 10, 10, 10, 10, 1],
    )[0]
    if kind in {"own", "others", "broken", "raising", "killed"}:
        with db.begin(tenant=tenant) as tx:
            return globals()[kind](tx, tenant), {tenant}
    if kind == "fetch":
        return {row for result in db.fetch(SEEN, SEEN, tenant=tenant) for row in result.scalars()}, {tenant}
    named: dict[str, Any] = {} if kind == "nobody" else {"tenant": tenant}
    with db.read(snapshot=kind == "snapshot", **named) as conn:
        return seen_by(conn), {tenant} if named else set()


def walk(seed: int, steps: int) -> tuple[int, list[tuple[set[str], set[str]]]]:
    choose = random.Random(seed)  # noqa: S311 - a reproducible walk
    looked = 0
    strange: list[tuple[set[str], set[str]]] = []
    for _ in range(steps):
        try:
            seen, allowed = step(choose)
        except (exc.DBAPIError, Interrupted):
            continue  # the step's own doing, or a kill that met a neighbour
        looked += 1
        if not seen <= allowed:
            strange.append((seen, allowed))
    return looked, strange


@through(*USUAL, *POOLERS, slow=[Door.PGBOUNCER, Door.RDS_PROXY, *POOLERS])
def test_no_tenant_sees_anothers_rows(shared: None, door: MakeDoor) -> None:
    """Nor does one who names none see any, whoever had the connection before, and however that ended."""
    steps = FEW_STEPS if door.name in POOLERS else STEPS
    with ThreadPoolExecutor(THREADS) as threads:
        walks = list(threads.map(walk, range(THREADS), [steps] * THREADS))
    assert [strange for _, strange in walks] == [[]] * THREADS
    assert sum(looked for looked, _ in walks) > THREADS * steps / 2
