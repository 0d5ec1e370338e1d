"""Managed Instances and SnapStart: awslambdaric on a Runtime API of the devkit's."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devkit.lambda_runtime.managed_and_snapstart import BareEnvironment

FUNCTION = """
import os, pathlib, time
from snapshot_restore_py import register_after_restore, register_before_snapshot

register_before_snapshot(print, "before", flush=True)
register_after_restore(print, "after", flush=True)

def handler(event, context):
    return globals()[event["do"]](event, context)

def meet(event, context):
    folder = pathlib.Path(event["folder"])
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < event["workers"]:
        time.sleep(0.01)
    return os.getpid()

def echo(event, context):
    return [event["value"], context.aws_request_id, context.get_remaining_time_in_millis()]

def fail(event, context):
    raise ValueError("this and that")

def sleep(event, context):
    time.sleep(60)
"""


THREADS = {"devkit-output", "devkit-runtime-api"}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "function.py").write_text(FUNCTION)
    (folder / "broken.py").write_text("import a_module_that_is_not_there")
    return folder


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_workers_are_processes_that_serve_at_the_same_time(code: Path, tmp_path: Path) -> None:
    """Each of three events waits for the two others, so no worker may have two of them."""
    folder = tmp_path / "met"
    folder.mkdir()
    event = {"do": "meet", "folder": str(folder), "workers": 3}
    with (
        BareEnvironment(handler="function.handler", code=[code], workers=3, timeout_s=30) as environment,
        ThreadPoolExecutor(3) as pool,
    ):
        answers = list(pool.map(environment.invoke, [event] * 3))
        assert {answer.payload for answer in answers} == set(environment.pids()[1:])


def test_it_hands_over_event_context_and_answer(code: Path) -> None:
    """As the runtime does everywhere, the deadline included."""
    with BareEnvironment(handler="function.handler", code=[code], timeout_s=30) as environment:
        answer = environment.invoke({"do": "echo", "value": "Zoë"})
    value, request_id, remaining_ms = answer.payload
    assert (value, len(request_id), answer.error) == ("Zoë", 36, None)
    assert 0 < remaining_ms <= 30_000


def test_an_exception_is_a_result(code: Path) -> None:
    """The worker lives on, and so does its environment."""
    with BareEnvironment(handler="function.handler", code=[code], workers=1, timeout_s=30) as environment:
        failed = environment.invoke({"do": "fail"})
        assert (failed.error, failed.payload["errorMessage"]) == ("ValueError", "this and that")
        assert environment.invoke({"do": "echo", "value": 1}).error is None


def test_no_answer_in_time_is_an_error_of_the_caller(code: Path) -> None:
    """The function is not ended, which is Lambda's to do; the environment's end takes it along."""
    with BareEnvironment(handler="function.handler", code=[code], timeout_s=1) as environment:
        with pytest.raises(TimeoutError):
            environment.invoke({"do": "sleep"})
        pids = environment.pids()
    assert not any(is_alive(pid) for pid in pids)


def test_a_snapshot_is_waited_at_until_the_restore(code: Path) -> None:
    """The hooks run on their side of it."""
    with BareEnvironment(handler="function.handler", code=[code], snap_start=True, timeout_s=30) as environment:
        assert environment.logs == ["before"]
        environment.restore()
        assert environment.logs == ["before", "after"]
        assert environment.invoke({"do": "echo", "value": 1}).error is None


def test_a_module_that_cannot_be_imported_says_so_at_the_start(code: Path) -> None:
    """With what it printed, and leaving nothing behind."""
    with pytest.raises(RuntimeError, match="a_module_that_is_not_there"):
        BareEnvironment(handler="broken.handler", code=[code]).__enter__()
    assert not [thread for thread in threading.enumerate() if thread.name in THREADS]


def test_shutdown_leaves_nothing(code: Path) -> None:
    """Neither a worker nor a thread; a second one does nothing."""
    with BareEnvironment(handler="function.handler", code=[code], workers=2, timeout_s=30) as environment:
        pids = environment.pids()
        assert len(pids) == 3
    environment.shutdown()
    assert not any(is_alive(pid) for pid in pids)
    assert not [thread for thread in threading.enumerate() if thread.name in THREADS]
