"""The scenarios of ``make fleet``, small: ours reaches each target, and the fault does break the plain function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.fleet.finding import OURS, PLAIN, Finding
from devkit.fleet.report import shown
from devkit.fleet.scenarios.alarms import alarms
from devkit.fleet.scenarios.by_door import kills_by_door, restart_by_door, rotation_by_door, storm_by_door
from devkit.fleet.scenarios.crowds import deploy, pooler, storm, warm
from devkit.fleet.scenarios.cuts import cuts
from devkit.fleet.scenarios.freezes import freezes, sleep
from devkit.fleet.scenarios.kills import kills
from devkit.fleet.scenarios.outages import OURS_RUN, failover, restart
from devkit.fleet.scenarios.pauses import resume
from devkit.fleet.scenarios.rotations import rotation
from devkit.fleet.scenarios.switchovers import blue_green, reader
from tests.doors import PROXIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.fleet.fork_server import ForkServer

pytestmark = pytest.mark.slow


def require(finding: Finding) -> Finding:
    assert finding.met, shown(finding)
    return finding


def test_no_cut_of_the_wire_loses_or_repeats_an_acknowledged_write(fork_server: ForkServer) -> None:
    """Where the outcome is unknown the caller is told, and the cut of a COMMIT's answer is such a case."""
    found = require(cuts(fork_server, work=("run", "begin")))
    assert found.outcomes[OURS].unknown > 0
    assert found.outcomes[PLAIN].misreported > 0


def test_frozen_environments_find_their_way_back(fork_server: ForkServer) -> None:
    """Their sessions have ended meanwhile, and a few of them are killed: none fails."""
    found = require(freezes(fork_server, environments=4, invocations=6))
    assert found.outcomes[OURS].invoked == 24


def test_rotations_under_load_fail_nothing(fork_server: ForkServer) -> None:
    """With AWSPENDING to be read and without, and from one user to another."""
    found = require(rotation(fork_server, environments=3, rotations=2, alternations=1, window_s=0.6))
    assert found.outcomes[PLAIN].failed > 0


def test_a_restart_under_load_fails_nothing(fork_server: ForkServer) -> None:
    """While the server is away everybody waits."""
    found = require(restart(fork_server, environments=4, restarts=1, away_s=0.5, pause_s=0.05))
    assert found.outcomes[PLAIN].failed > 0
    assert found.outcomes[OURS_RUN].waited > 0


def test_a_failover_under_load_loses_nothing(fork_server: ForkServer) -> None:
    """The old primary took unconfirmed commits with it; who asks with db.once need not know."""
    found = require(failover(fork_server, environments=3, away_s=0.5, pause_s=0.05))
    assert found.outcomes[PLAIN].failed > 0
    assert found.outcomes[OURS].waited > 0


def test_a_paused_server_is_waited_for_and_left_to_pause_again(fork_server: ForkServer) -> None:
    """By one connect for each environment; the plain ones fail, and keep it awake."""
    found = require(resume(fork_server, environments=8, pauses=2, resume_s=2.2))
    assert found.outcomes[OURS].invoked == 16
    assert found.outcomes[PLAIN].failed > 0
    assert "paused 1 of 2 times" in found.figures[PLAIN]


def test_a_blue_green_switchover_fails_nothing(fork_server: ForkServer) -> None:
    """The plain ones go on failing when it is over: their connections lead to the old side, and pass the ping."""
    found = require(blue_green(fork_server, environments=3, read_only_s=0.5, away_s=0.3, late_s=0.5, pause_s=0.05))
    assert found.notes["failed when the name led to green for 2 s and more"][PLAIN] > 0
    assert found.outcomes[OURS].retried > 0


def test_a_reader_that_is_lost_fails_nothing(fork_server: ForkServer) -> None:
    """The writer stands in for it."""
    found = require(reader(fork_server, environments=3, late_s=0.5, joined_s=0.5, pause_s=0.05))
    assert found.outcomes[PLAIN].failed > 0


def test_a_storm_waits_for_its_turn(fork_server: ForkServer) -> None:
    """More environments than connections, all at once."""
    found = require(storm(fork_server, environments=20, max_connections=10))
    assert found.outcomes[PLAIN].failed > 0
    assert found.outcomes[OURS].waited > 0


def test_a_pooler_lends_its_connections_to_all(fork_server: ForkServer) -> None:
    """More environments than it may open connections."""
    assert require(pooler(fork_server, environments=30)).outcomes[OURS].answered == 30


def test_a_deploy_finds_room_beside_the_old_version(fork_server: ForkServer) -> None:
    """The old environments are frozen, and the server ends their sessions."""
    found = require(deploy(fork_server, environments=5, max_connections=11))
    assert found.outcomes[PLAIN].failed > 0


def test_environments_without_work_hold_no_connection(fork_server: ForkServer) -> None:
    """The plain ones hold theirs for as long as they live."""
    found = require(warm(fork_server, environments=12, active=3, most_held=3, seconds=3.5))
    assert found.outcomes[PLAIN].held_max == 12


def test_a_statement_does_not_outlive_its_invocation() -> None:
    """In real environments: the caller hears of it in time, and the server works for nobody who has gone."""
    found = require(sleep(left_s=2))
    assert "sleeps on" in found.figures[PLAIN]


def test_an_alarm_is_heard_once_and_work_goes_on(fork_server: ForkServer) -> None:
    """Wherever it strikes: on one connection, sync and async, with what it interrupted undone or said to be unknown."""
    found = require(alarms(fork_server, alarms=60))
    assert found.outcomes[PLAIN].failed > 0


def test_killed_backends_fail_nothing_but_what_is_unknown(fork_server: ForkServer) -> None:
    """Kept connections and new ones, sync, async and on asyncpg."""
    found = require(kills(fork_server, environments=3, kills=80, busy_loops=2))
    assert found.outcomes[PLAIN].failed > 0
    assert found.outcomes[OURS].replayed > 0


@pytest.mark.parametrize(
    ("by_door", "size"),
    [
        (rotation_by_door, {"environments": 3, "rotations": 2, "alternations": 1, "window_s": 0.6}),
        (restart_by_door, {"environments": 4, "restarts": 1, "away_s": 0.5}),
        (storm_by_door, {"environments": 16, "max_connections": 10}),
        (kills_by_door, {"environments": 3, "kills": 20}),
    ],
    ids=["rotation", "restart", "storm", "kills"],
)
def test_nothing_fails_behind_a_proxy(
    by_door: Callable[..., Finding], size: dict[str, float], fork_server: ForkServer
) -> None:
    """Through PgBouncer, and through RDS Proxy's words, on either driver."""
    found = require(by_door(fork_server, doors=PROXIES, **size))
    assert [*found.outcomes] == [f"{door}, {driver}" for door in PROXIES for driver in ("psycopg", "asyncpg")]
    assert min(outcome.answered for outcome in found.outcomes.values()) > 0
