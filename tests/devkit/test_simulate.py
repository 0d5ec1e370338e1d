"""The simulation's laws: what has to hold whatever the numbers are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from devkit import cli
from devkit.simulate.run import simulate
from devkit.simulate.scenario import (
    Burst,
    Callers,
    Deploy,
    Failover,
    Function,
    Handler,
    Messages,
    Pooler,
    Rotation,
    Scenario,
    Server,
    SlowQueries,
    Steady,
    settings,
)
from devkit.simulate.scenarios import SCENARIOS

if TYPE_CHECKING:
    from typing import Any

    from devkit.simulate.measures import Outcome

A_SECOND = Handler(waits_s=1.0, cpu_s=0.0, trips=0)


def outcome(seed: int = 1, **values: Any) -> Outcome:
    given: dict[str, Any] = {"duration_s": 60.0, "server": Server(max_connections=1003, cores=8)} | values
    return simulate(Scenario(name="test", title="", **given), seed=seed)


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_the_same_seed_gives_the_same_result_and_another_one_another(name: str) -> None:
    """Byte for byte, as it would be stored."""
    scenario = SCENARIOS[name](8)
    first, again, other = (json.dumps(simulate(scenario, seed=seed).as_dict()) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_what_is_in_the_house_is_what_comes_times_how_long_it_stays() -> None:
    """Little's law, on requests at random that nothing stands in the way of."""
    handler = Handler(before_s=0.2, waits_s=0.3, cpu_s=0.001, varies=True)
    found = outcome(
        duration_s=200.0,
        load=[Steady(per_s=25)],
        function=Function(handler=handler, cold_s=0.0),
    )
    at_work = sum(sample.at_work for sample in found.samples) / len(found.samples)
    assert at_work == pytest.approx(found.invoked / 200 * found.answer_mean_s, rel=0.05)
    assert found.failed == found.throttled == 0


def test_the_server_never_holds_more_than_it_may() -> None:
    """With a crowd before it, and a failover amid it."""
    found = outcome(
        load=[Callers(count=60, invocations=5, pause_s=(0.0, 0.2))],
        function=Function(handler=A_SECOND, timeout_s=20.0),
        server=Server(max_connections=13, cores=2, idle_session_s=1.0),
        happenings=[Failover(at_s=10.0, away_s=3.0)],
    )
    assert found.held_max == 10
    assert found.refused > 0
    assert max(sample.held for sample in found.samples) == 10
    assert any(sample.held == 0 for sample in found.samples if 10 < sample.at_s < 13)


def test_lambda_starts_a_thousand_environments_in_ten_seconds() -> None:
    """And no more in any ten seconds, with what was not used before left where it is."""
    found = outcome(
        duration_s=75.0,
        load=[Burst(at_s=5.0, count=3500, kind="async")],
        function=Function(handler=Handler(before_s=100.0), timeout_s=300.0, account=10_000),
        server=Server(max_connections=5003, cores=64),
    )
    assert found.started_10s_max == 1000
    started = {int(sample.at_s): sample.environments for sample in found.samples}
    assert [started[at_s] for at_s in (4, 14, 24, 70)] == [0, 1000, 2000, 3500]
    assert found.throttled == 2500


def test_reserved_concurrency_bounds_connections() -> None:
    """Who is refused comes again, where the event is asynchronous."""
    found = outcome(
        duration_s=120.0,
        load=[Burst(at_s=0.0, count=60, kind="async")],
        function=Function(handler=A_SECOND, reserved=20),
    )
    assert (found.environments_max, found.held_max, found.answered) == (20, 20, 60)
    assert found.throttled == 40
    refused = outcome(load=[Burst(at_s=0.0, count=60)], function=Function(handler=A_SECOND, reserved=20))
    assert (refused.answered, refused.throttled) == (20, 40)


def test_an_environment_that_idles_is_ended_and_its_connection_with_it() -> None:
    """By the layer's own hook; without it the server keeps the session."""
    load = [Burst(at_s=0.0, count=10)]
    function = Function(handler=A_SECOND, keep_s=20.0)
    ended = outcome(load=load, function=function)
    assert (ended.samples[-1].environments, ended.samples[-1].held) == (0, 0)
    unheard = outcome(load=load, function=function, settings=settings(shutdown_hook=False))
    assert (unheard.samples[-1].environments, unheard.samples[-1].held) == (0, 10)


def test_a_deploy_doubles_what_is_held_until_the_old_ones_end() -> None:
    """With a connection for each checkout it adds none."""
    kept, none_kept = (
        outcome(
            load=[Burst(at_s=at_s, count=20) for at_s in (0.0, 10.0)],
            function=Function(handler=A_SECOND),
            happenings=[Deploy(at_s=5.0, linger_s=20.0)],
            settings=settings(pool=pool),
        )
        for pool in ("queue", "null")
    )
    assert (kept.held_max, none_kept.held_max) == (40, 20)
    assert kept.samples[-1].held == 20


def test_a_pooler_lends_in_turn() -> None:
    """Thirty for ten connections of a second each: the last one waits for two."""
    found = outcome(
        load=[Callers(count=30, invocations=1)],
        function=Function(handler=A_SECOND, timeout_s=20.0),
        server=Server(connect_cpu_s=0.0, trip_s=0.0),
        pooler=Pooler(size=10),
    )
    assert (found.answered, found.held_max) == (30, 10)
    assert found.answer_max_s == pytest.approx(3.0)
    assert found.wait_p50_s == pytest.approx(1.0)


def test_a_pooler_refuses_who_waited_for_too_long() -> None:
    """The layer comes again, as to a server that is full."""
    found = outcome(
        load=[Callers(count=30, invocations=1)],
        function=Function(handler=A_SECOND, timeout_s=20.0),
        pooler=Pooler(size=10, borrow_s=0.5),
    )
    assert found.refused >= 20
    assert found.answered == 30


def test_a_rotation_fails_nobody() -> None:
    """The staged password is tried while the secret still says the old one: by the layer's own login."""
    found = outcome(
        load=[Steady(per_s=20)],
        function=Function(handler=Handler(waits_s=0.1)),
        happenings=[Rotation(at_s=20.0, window_s=5.0)],
        settings=settings(pool="null"),
    )
    assert found.failed == 0
    assert found.answer_max_s < 0.5


def test_a_failover_is_waited_for() -> None:
    """What was at work is sent again; who comes meanwhile waits until it is back."""
    found = outcome(
        load=[Callers(count=10, invocations=40, connected=True)],
        function=Function(handler=A_SECOND, timeout_s=20.0),
        happenings=[Failover(at_s=10.5, away_s=4.0)],
    )
    assert found.failed == 0
    assert found.connects == 20
    assert 4.0 < found.answer_max_s < 8.0


def test_a_slow_statement_is_ended_before_the_invocation() -> None:
    """With the reserve left to answer in."""
    found = outcome(
        load=[Steady(per_s=5)],
        function=Function(handler=A_SECOND, timeout_s=5.0),
        happenings=[SlowQueries(at_s=0.0, for_s=60.0, factor=10.0)],
    )
    assert set(found.errors) == {"statement timeout"}
    assert found.answer_max_s == pytest.approx(4.5)


def test_messages_come_back_until_they_are_given_up() -> None:
    """Each is received as often as the queue allows."""
    found = outcome(
        duration_s=300.0,
        load=[Messages(count=10, concurrency=5, visibility_s=10.0, receives=3)],
        function=Function(handler=Handler(waits_s=10.0), timeout_s=5.0),
    )
    assert (found.requests, found.invoked, found.dead, found.answered) == (10, 30, 10, 0)


def test_the_command_says_what_came_of_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """As text or as JSON; and which scenarios there are."""
    assert cli.main(["simulate", "queue", "--environments", "5", "--seed", "3", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told == json.loads(json.dumps(simulate(SCENARIOS["queue"](5), seed=3).as_dict()))
    assert cli.main(["simulate", "queue", "--environments", "5"]) == 0
    assert "50 requests: 50 answered, 0 failed" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["simulate", "no-such"])
    assert "they are steady, herd" in capsys.readouterr().err
