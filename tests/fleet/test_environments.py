"""Light environments are to their functions what real ones are."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from devkit.fleet.environment import EXIT_ERROR, Environment, Function, RealEnvironment, events_in
from devkit.fleet.fork_server import ForkServer, LightEnvironment
from devkit.lambda_runtime.emulator import processes
from devkit.lambda_runtime.environment import TIMEOUT_ERROR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[[str], Environment]

CODE = """
import json, os, time

calls = 0

def handler(event, context):
    global calls
    calls += 1
    if event.get("print"):
        print(json.dumps({"connection_event": event["print"]}))
    if event.get("sleep_s"):
        time.sleep(event["sleep_s"])
    if event.get("exit"):
        os._exit(3)
    if event.get("raise"):
        raise LookupError(event["raise"])
    left_s = context.get_remaining_time_in_millis() / 1000
    return {"calls": calls, "pid": os.getpid(), "at": time.time(), "left_s": left_s, "home": os.environ.get("HOME")}
"""


@pytest.fixture(params=["light", "real"])
def make(request: pytest.FixtureRequest, fork_server: ForkServer, tmp_path: Path) -> Iterator[Make]:
    """Environments of either kind for code of the test's own."""
    made: list[Environment] = []

    def start(code: str = CODE) -> Environment:
        (tmp_path / "function_of_the_test.py").write_text(code)
        function = Function("test", "function_of_the_test.handler", {"PYTHONPATH": str(tmp_path)}, timeout_s=2)
        made.append(LightEnvironment(function, fork_server) if request.param == "light" else RealEnvironment(function))
        return made[-1]

    yield start
    for environment in made:
        environment.end()


def payload(environment: Environment, **event: Any) -> Any:
    answer = environment.invoke(event)
    assert answer.error is None, answer
    return answer.payload


def test_an_environment_keeps_what_its_module_holds(make: Make) -> None:
    """And shares it with no other, nor this machine's variables."""
    one, other = make(CODE), make(CODE)
    first, second, foreign = payload(one), payload(one), payload(other)
    assert (first["calls"], second["calls"], foreign["calls"]) == (1, 2, 1)
    assert len({first["pid"], foreign["pid"], os.getpid()}) == 3
    assert (first["home"], 0 < first["left_s"] <= 2) == (None, True)


def test_a_frozen_one_does_nothing_until_it_is_invoked(make: Make) -> None:
    """It is the same process then."""
    environment = make(CODE)
    before = payload(environment)
    environment.freeze()
    time.sleep(0.05)
    after = payload(environment)
    assert (after["pid"], after["calls"]) == (before["pid"], 2)


@pytest.mark.slow
def test_what_ends_is_replaced_by_a_new_one(make: Make) -> None:
    """By the end of Lambda's patience, by its own doing, or while it was frozen."""
    environment = make(CODE)
    payload(environment)
    assert environment.invoke({"sleep_s": 4}).error == TIMEOUT_ERROR
    assert payload(environment)["calls"] == 1
    assert environment.invoke({"exit": True}).error == EXIT_ERROR
    assert payload(environment)["calls"] == 1
    environment.freeze()
    environment.end()
    assert payload(environment)["calls"] == 1


def test_an_exception_is_an_answer(make: Make) -> None:
    """By type and message; the environment stays."""
    environment = make(CODE)
    answer = environment.invoke({"raise": "nowhere"})
    assert (answer.error, answer.message) == ("LookupError", "nowhere")
    assert payload(environment)["calls"] == 2


def test_what_the_layer_logs_is_counted(make: Make) -> None:
    """For each invocation alone."""
    environment = make(CODE)
    assert environment.invoke({"print": "replay"}).events == {"replay": 1}
    assert environment.invoke({}).events == {}


def test_a_module_that_cannot_be_loaded_says_why(fork_server: ForkServer) -> None:
    """At the invocation, as Lambda does."""
    environment = LightEnvironment(Function("test", "no_such_module.handler", {}, timeout_s=2), fork_server)
    answer = environment.invoke({})
    environment.end()
    assert (answer.error, answer.message) == ("ModuleNotFoundError", "No module named 'no_such_module'")


def test_a_line_that_is_none_of_the_layers_is_not_counted() -> None:
    """Whatever words it holds."""
    assert events_in(['{"connection_event": "retry"}', "connection_event", '["connection_event"]', "{}"]) == {
        "retry": 1
    }


def test_the_waits_of_a_connect_are_counted_by_what_it_says_at_its_end() -> None:
    """It logs the first one alone, so that a burst floods no log."""
    lines = ['{"connection_event": "connect waits", "attempt": 1}', '{"connection_event": "connect", "attempts": 4}']
    assert events_in(lines) == {"connect waits": 1, "connect": 1, "waits": 3}


def test_the_fork_servers_end_ends_everything_that_it_forked() -> None:
    """Frozen ones too, and nobody has to be asked."""
    function = Function("test", "devkit.fleet.functions.ours.handler", {}, timeout_s=2)
    with ForkServer() as own:
        session = own.pid
        environments = [LightEnvironment(function, own) for _ in range(3)]
        environments[0].freeze()
        assert len(processes(session)) == 4
    give_up_at = time.monotonic() + 2
    while processes(session) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert processes(session) == []
    for environment in environments:
        environment.end()
