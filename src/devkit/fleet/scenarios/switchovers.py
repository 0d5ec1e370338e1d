"""Another server takes the place of one that is up: a blue/green deployment, and a reader that leaves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from db.pool.reader_route import AWAY_S
from devkit.fleet.environment import Function
from devkit.fleet.finding import OURS, PLAIN, Finding, failures, nothing_lost
from devkit.fleet.fleet import under_load
from devkit.fleet.run import function, run
from devkit.fleet.site import DATABASE, Site
from devkit.network.wire import Wire
from devkit.servers.replica import Cluster, Standby

from .kills import OURS_ASYNCPG
from .outages import OURS_RUN, thinking

if TYPE_CHECKING:
    from devkit.fleet.fork_server import ForkServer

TIMEOUT_S = 30
SETTLE_S = 1.0
READ_ONLY = "ALTER SYSTEM SET default_transaction_read_only = on"


def blue_green(
    fork_server: ForkServer,
    *,
    environments: int = 20,
    read_only_s: float = 2.0,
    away_s: float = 1.0,
    late_s: float = 3.0,
    pause_s: float = 0.1,
) -> Finding:
    """What AWS says that a switchover does, in its order.

    Blue takes no writes, then drops its connections and lets nobody in, for ``away_s``; green takes writes, and the
    name leads to blue for ``late_s`` more, which is up and read-only. Who connected there meanwhile is not cut off.
    """
    with Cluster() as cluster, Wire(cluster.primary.host, cluster.primary.port) as name:
        site = Site(cluster.primary)
        fleets = {
            OURS: (function(OURS, site, name, timeout_s=TIMEOUT_S), "read, then once"),
            OURS_RUN: (function(OURS, site, name, timeout_s=TIMEOUT_S), "read, then run"),
            OURS_ASYNCPG: (
                function(
                    OURS,
                    site,
                    name,
                    timeout_s=TIMEOUT_S,
                    module="ours_aio",
                    variables={"DB_ASYNC_DRIVER": "asyncpg"},
                ),
                "read, then once",
            ),
            PLAIN: (function(PLAIN, site, name, timeout_s=TIMEOUT_S), "run"),
        }
        with run(
            fleets, size=environments, server=lambda: cluster.primary, fork_server=fork_server, connected=True
        ) as running:
            with under_load([*running.fleets.values()], thinking(pause_s)):
                time.sleep(SETTLE_S)
                blue = cluster.primary
                blue.execute(READ_ONLY)
                blue.execute("SELECT pg_reload_conf()")
                time.sleep(read_only_s)
                name.refuse()
                name.cut()
                time.sleep(away_s)
                cluster.promote()
                green = cluster.primary
                name.accept()
                time.sleep(late_s)
                name.retarget(green.host, green.port)
                time.sleep(2 * SETTLE_S)
                begun_anew = {label: len(fleet.entries) for label, fleet in running.fleets.items()}
                time.sleep(2 * SETTLE_S)
            outcomes = running.outcomes()
            poisoned = {
                label: sum(entry.failed for entry in fleet.entries[begun_anew[label] :])
                for label, fleet in running.fleets.items()
            }
    by_run = outcomes[OURS_RUN]
    return Finding(
        name="blue-green",
        title=f"a blue/green switchover under load: {read_only_s:g} s read-only, {away_s:g} s away, the name "
        f"{late_s:g} s late, deadline {TIMEOUT_S} s",
        target="0 failed",
        parts={
            "0 failed (db.once)": outcomes[OURS].failed == 0,
            "0 failed (asyncpg)": outcomes[OURS_ASYNCPG].failed == 0,
            "0 failed but unknown outcomes (db.run)": by_run.failed == by_run.unknown,
            **nothing_lost(outcomes[OURS]),
            **{f"{what} (db.run)": held for what, held in nothing_lost(by_run).items()},
            **{f"{what} (asyncpg)": held for what, held in nothing_lost(outcomes[OURS_ASYNCPG]).items()},
        },
        figures={label: failures(outcome) for label, outcome in outcomes.items()},
        outcomes=outcomes,
        curves=running.curves(),
        notes={"failed when the name led to green for 2 s and more": poisoned},
    )


def reader(
    fork_server: ForkServer,
    *,
    environments: int = 20,
    late_s: float = 3.0,
    joined_s: float = AWAY_S + 5.0,
    pause_s: float = 0.1,
) -> Finding:
    """The one reader is lost; ``late_s`` later its name leads to another one, and the load goes on for ``joined_s``.

    The plain function reads by an engine of its own for the reader's name.
    """
    with Cluster() as cluster, Standby(cluster.primary) as joining:
        site = Site(cluster.primary)
        cluster.catch_up()
        of_ours = {"DB_READER_HOST": cluster.reader.host, "DB_READER_PORT": str(cluster.reader.port)}
        of_plain = {"READER_URL": site.url(PLAIN, cluster.reader).render_as_string(hide_password=False)}
        fleets = {
            OURS: (function(OURS, site, cluster.endpoint, timeout_s=TIMEOUT_S, variables=of_ours), "read, then run"),
            PLAIN: (
                Function(
                    PLAIN,
                    "devkit.fleet.functions.plain_reader.handler",
                    {**site.variables(PLAIN, cluster.endpoint), **of_plain},
                    TIMEOUT_S,
                ),
                "read, then run",
            ),
        }
        with run(
            fleets, size=environments, server=lambda: cluster.primary, fork_server=fork_server, connected=True
        ) as running:
            with under_load([*running.fleets.values()], thinking(pause_s)):
                time.sleep(SETTLE_S)
                cluster.lose_standby()
                time.sleep(late_s)
                cluster.reader.retarget(joining.host, joining.port)
                time.sleep(joined_s)
                joined = len(joining.connections(DATABASE, user=OURS))
            outcomes = running.outcomes()
        stays_away = joined_s <= AWAY_S
    return Finding(
        name="reader",
        title=f"a reader lost under load, another one behind its name {late_s:g} s later",
        target="0 failed",
        parts={
            "0 failed": outcomes[OURS].failed == 0,
            **({} if stays_away else {"the one that joined is read from": joined > 0}),
            **nothing_lost(outcomes[OURS]),
        },
        figures={label: failures(outcome) for label, outcome in outcomes.items()},
        outcomes=outcomes,
        curves=running.curves(),
        notes={"connections to the one that joined": joined},
    )
