"""A real execution environment: awslambdaric under the emulator, with a function of a few lines."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.lambda_runtime.environment import RUNNING, LambdaEnvironment
from tests.moments import given_its_moment, heard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.devkit.conftest import RunPython

FUNCTION = """
import os, subprocess, sys, time

calls = 0

def handler(event, context):
    global calls
    calls += 1
    return globals()[event["do"]](event, context)

def count(event, context):
    return {"calls": calls, "pid": os.getpid()}

def echo(event, context):
    return event["value"]

def fail(event, context):
    raise ValueError("this and that")

def crash(event, context):
    print("before the crash")
    os._exit(3)

def sleep(event, context):
    time.sleep(60)

def say(event, context):
    print(event["text"], end="")
    print("to stderr", file=sys.stderr)

def variables(event, context):
    return dict(os.environ)

def told(event, context):
    return [context.function_name, context.memory_limit_in_mb, context.get_remaining_time_in_millis(), os.getcwd()]

def leave_a_child(event, context):
    return subprocess.Popen(["sleep", "60"]).pid
"""

# The recipe for a runtime that is told before it ends: an internal extension without events.
GRACEFUL = """
import json, os, pathlib, signal, sys, threading, urllib.request

extension = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2020-01-01/extension"
register = urllib.request.Request(f"{extension}/register", b'{"events":[]}', {"Lambda-Extension-Name": "graceful"})
with urllib.request.urlopen(register) as answer:
    identifier = answer.headers["Lambda-Extension-Identifier"]
wait = urllib.request.Request(f"{extension}/event/next", headers={"Lambda-Extension-Identifier": identifier})
threading.Thread(target=urllib.request.urlopen, args=(wait,), daemon=True).start()

def on_sigterm(number, frame):
    print("told to end", flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, on_sigterm)

def handler(event, context):
    return "ready"
"""

UNTIDY = """
import sys
from pathlib import Path
from devkit.lambda_runtime.environment import LambdaEnvironment

environment = LambdaEnvironment(handler="function.handler", code=[Path(sys.argv[1])])
environment.start()
print(environment.invoke({"do": "leave_a_child"}).payload, environment.runtime_pid())
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "function.py").write_text(FUNCTION)
    (tmp_path / "graceful.py").write_text(GRACEFUL)
    (tmp_path / "broken.py").write_text("import a_module_that_is_not_there")
    return tmp_path


@pytest.fixture
def environment(code: Path) -> Iterator[LambdaEnvironment]:
    # Loaded machines take their time to start Python, and that is part of the first invocation.
    with LambdaEnvironment(handler="function.handler", code=[code], timeout_s=30) as environment:
        yield environment


def state(pid: int) -> str | None:
    """The letter that ps shows; None for a process that has ended."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if letter == "Z" else letter


def test_it_hands_over_the_payload_and_the_answer(environment: LambdaEnvironment) -> None:
    """JSON both ways, beyond ASCII too; a success has no error."""
    value = {"name": "Zoë", "list": [1, 2.5, None, True], "text": "a\nb"}
    invocation = environment.invoke({"do": "echo", "value": value})
    assert invocation.payload == value
    assert invocation.error is None


def test_the_second_invocation_is_warm(environment: LambdaEnvironment) -> None:
    """The same process with the same module state; only the first one paid for Init."""
    first, second = (environment.invoke({"do": "count"}) for _ in range(2))
    assert first.payload == {"calls": 1, "pid": environment.runtime_pid()}
    assert second.payload == {"calls": 2, "pid": environment.runtime_pid()}
    assert (first.cold, second.cold) == (True, False)
    assert second.duration_ms < first.duration_ms


def test_an_exception_is_a_result_and_keeps_the_runtime(environment: LambdaEnvironment) -> None:
    """Its type is the error, its message and traceback are in answer and log, and the next invocation is warm."""
    failed = environment.invoke({"do": "fail"})
    assert (failed.error, failed.payload["errorMessage"]) == ("ValueError", "this and that")
    assert failed.logs[0].startswith("[ERROR] ValueError: this and that")
    assert environment.invoke({"do": "count"}).payload["calls"] == 2


def test_an_answer_that_looks_like_an_error_is_an_answer(environment: LambdaEnvironment) -> None:
    """The emulator marks neither; only Lambda's own document has the request id and the stack trace."""
    value = {"errorType": "OutOfStock", "errorMessage": "no"}
    invocation = environment.invoke({"do": "echo", "value": value})
    assert (invocation.payload, invocation.error) == (value, None)


def test_a_crash_resets_the_runtime(environment: LambdaEnvironment) -> None:
    """What it printed is not lost, and the next invocation is cold in a new process."""
    pid = environment.invoke({"do": "count"}).payload["pid"]
    crashed = environment.invoke({"do": "crash"})
    assert (crashed.error, crashed.cold, crashed.logs) == ("Runtime.ExitError", False, ("before the crash",))
    assert environment.runtime_pid() is None
    after = environment.invoke({"do": "count"})
    assert (after.payload["calls"], after.cold) == (1, True)
    assert after.payload["pid"] != pid


def test_a_timeout_resets_the_runtime(code: Path) -> None:
    """The process is killed at the deadline; the next invocation is cold."""
    with LambdaEnvironment(handler="function.handler", code=[code], timeout_s=2) as environment:
        timed_out = environment.invoke({"do": "sleep"})
        assert timed_out.error == "Sandbox.Timedout"
        assert timed_out.payload["errorMessage"] == "Task timed out after 2.00 seconds"
        assert timed_out.duration_ms >= 1900
        assert environment.runtime_pid() is None
        assert environment.invoke({"do": "count"}).cold


def test_a_module_that_cannot_be_imported_is_a_result(code: Path) -> None:
    """As in Lambda, where it shows at the first invocation and at every one after."""
    with LambdaEnvironment(handler="broken.handler", code=[code], timeout_s=30) as environment:
        errors = [environment.invoke(None).error for _ in range(2)]
    assert errors == ["Runtime.ImportModuleError"] * 2


def test_lines_belong_to_their_invocation(environment: LambdaEnvironment) -> None:
    """stdout and stderr, in order, complete when invoke returns, and without the platform's own."""
    first = environment.invoke({"do": "say", "text": "one\n\ntwo\n"})
    second = environment.invoke({"do": "say", "text": "three\n"})
    assert first.logs == ("one", "", "two", "to stderr")
    assert second.logs == ("three", "to stderr")
    assert [line.split()[0] for line in environment.logs if "RequestId" in line] == ["START", "END", "REPORT"] * 2


def test_a_line_without_an_end_is_a_line(environment: LambdaEnvironment) -> None:
    """The emulator writes its END right behind it."""
    environment.invoke({"do": "count"})
    assert environment.invoke({"do": "say", "text": "x" * 200_000}).logs == ("x" * 200_000 + "to stderr",)


def test_nothing_of_this_machine_leaks_in(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function has its own variables and Lambda's; the shell's are not there, PATH and HOME included."""
    monkeypatch.setenv("OF_THE_SHELL", "1")
    with LambdaEnvironment(
        handler="function.handler", code=[code], environment={"OWN": "1"}, timeout_s=30
    ) as environment:
        variables = environment.invoke({"do": "variables"}).payload
    assert variables["OWN"] == "1"
    assert not {"OF_THE_SHELL", "HOME", "VIRTUAL_ENV"} & variables.keys()
    assert variables["PATH"] == "/usr/local/bin:/usr/bin:/bin:/opt/bin"
    assert variables["AWS_EXECUTION_ENV"] == f"AWS_Lambda_{RUNNING}"


def test_the_function_is_told_what_it_is(code: Path) -> None:
    """Name, memory and remaining time as configured, and the code folder as the current one."""
    with LambdaEnvironment(
        handler="function.handler", code=[code], name="orders", memory_mb=1769, timeout_s=20
    ) as environment:
        name, memory_mb, remaining_ms, folder = environment.invoke({"do": "told"}).payload
    assert (name, memory_mb, folder) == ("orders", "1769", str(code.resolve()))
    assert 10_000 < remaining_ms <= 20_000


def test_freeze_stops_the_runtime_and_thaw_lets_it_go_on(environment: LambdaEnvironment) -> None:
    """The process stays, and so does what it holds in memory."""
    pid = environment.invoke({"do": "count"}).payload["pid"]
    environment.freeze()
    assert state(pid) == "T"
    environment.thaw()
    assert state(pid) != "T"
    assert environment.invoke({"do": "count"}).payload == {"calls": 2, "pid": pid}


def test_an_invocation_thaws(environment: LambdaEnvironment) -> None:
    """As in Lambda, where nobody else does."""
    environment.invoke({"do": "count"})
    environment.freeze()
    assert environment.invoke({"do": "count"}).payload["calls"] == 2


def test_there_is_nothing_to_freeze_before_the_first_invocation(environment: LambdaEnvironment) -> None:
    """The runtime does not exist yet, and a freeze that stops nothing would be a false comfort."""
    assert environment.runtime_pid() is None
    with pytest.raises(RuntimeError, match="first invocation"):
        environment.freeze()


@given_its_moment
def test_a_registered_extension_hears_of_the_shutdown(code: Path) -> None:
    """SIGTERM reaches the runtime, from the freeze as well, and its last line is kept."""
    with LambdaEnvironment(handler="graceful.handler", code=[code], timeout_s=30) as environment:
        assert environment.invoke(None).payload == "ready"
        environment.freeze()
    heard([line for line in environment.logs if line == "told to end"])
    assert environment.logs[-1] == "told to end"


def test_shutdown_leaves_nothing(environment: LambdaEnvironment) -> None:
    """Neither the runtime nor a child that the function left, nor a thread here; a second one does nothing."""
    child = environment.invoke({"do": "leave_a_child"}).payload
    runtime = environment.runtime_pid()
    assert environment.alive
    assert runtime is not None
    environment.shutdown()
    assert (state(child), state(runtime), environment.alive, environment.runtime_pid()) == (None, None, False, None)
    assert not [thread for thread in threading.enumerate() if thread.name == "devkit-output"]
    environment.shutdown()


def test_a_killed_emulator_takes_its_sandbox_along(environment: LambdaEnvironment) -> None:
    """Even when it could not end its runtime itself; invoking it is an error that says what happened."""
    runtime = environment.invoke({"do": "count"}).payload["pid"]
    os.kill(int(Path(f"/proc/{runtime}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="no answer"):
        environment.invoke({"do": "count"})
    assert not environment.alive
    environment.shutdown()
    assert state(runtime) is None


def test_a_program_that_forgets_it_leaves_nothing_either(code: Path, run_python: RunPython) -> None:
    """The end of Python is the end of the environment."""
    child, runtime = map(int, run_python("-c", UNTIDY, code).split())
    assert (state(child), state(runtime)) == (None, None)


def test_environments_do_not_share_ports_or_processes(code: Path) -> None:
    """A fleet starts at the same time."""

    def pid(_: int) -> int:
        with LambdaEnvironment(handler="function.handler", code=[code], timeout_s=30) as environment:
            return int(environment.invoke({"do": "count"}).payload["pid"])

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(pid, range(4)))) == 4


def test_invoking_it_outside_its_block_is_an_error(code: Path) -> None:
    """It says what to do."""
    environment = LambdaEnvironment(handler="function.handler", code=[code])
    with pytest.raises(RuntimeError, match="with block"):
        environment.invoke(None)
