"""``@db.invocation`` on whatever people decorate, with whatever they call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest

import db
from db.environment import handler_decorator
from db.timing.invocation import NONE, current_invocation

if TYPE_CHECKING:
    from devkit.plugin import MakeLambdaContext


def bound() -> tuple[str | None, bool]:
    """The request id of the invocation that runs, and whether it has a deadline."""
    now = current_invocation()
    assert now is not NONE
    return now.request_id, now.deadline is not None


@pytest.mark.parametrize(
    ("context", "found"),
    [
        (None, (None, False)),
        ({}, (None, False)),
        (SimpleNamespace(aws_request_id="r"), ("r", False)),
        (SimpleNamespace(get_remaining_time_in_millis=lambda: 5000), (None, True)),
        (MagicMock(lambda_context=None), (None, False)),
        (MagicMock(), (None, False)),
    ],
    ids=["none", "dict", "id", "time", "mock", "mock of all"],
)
def test_a_context_may_be_any_part_of_one(context: Any, found: tuple[str | None, bool]) -> None:
    """As unit tests have them; what is missing is not known, and no reason to fail."""
    assert db.invocation(lambda _event, _context: bound())({}, context) == found


def test_a_durable_functions_context_holds_lambdas(lambda_context: MakeLambdaContext) -> None:
    """The handler is given the durable one all the same."""
    durable = SimpleNamespace(lambda_context=lambda_context(request_id="r"), step=None)
    handler = db.invocation(lambda _event, context: (context is durable, bound()))
    assert handler({}, durable) == (True, ("r", True))


def test_parentheses_change_nothing(lambda_context: MakeLambdaContext) -> None:
    """Other decorators have them."""

    @db.invocation()
    def handler(event: int, _context: Any) -> tuple[int, Any]:
        return event, bound()

    assert handler(7, lambda_context(request_id="r")) == (7, ("r", True))


class Orders:
    """A handler of each kind that a class may have."""

    @db.invocation
    def method(self, event: int, context: Any) -> Any:
        return type(self).__name__, event, context, bound()

    @classmethod
    @db.invocation
    def of_class(cls, event: int, context: Any) -> Any:
        return cls.__name__, event, context, bound()

    @staticmethod
    @db.invocation
    def static(event: int, context: Any) -> Any:
        return "Orders", event, context, bound()

    @db.invocation
    async def coroutine(self, event: int, context: Any) -> Any:
        return type(self).__name__, event, context, bound()

    def __call__(self, event: int, context: Any) -> Any:
        return type(self).__name__, event, context, bound()


@pytest.mark.parametrize(
    "handler",
    [Orders().method, Orders.of_class, Orders.static, Orders().coroutine, db.invocation(Orders())],
    ids=["method", "class", "static", "coroutine", "object"],
)
def test_a_method_or_an_object_may_be_the_handler(handler: Any, lambda_context: MakeLambdaContext) -> None:
    """It is called with event and context, as Mangum's are."""
    context = lambda_context(request_id="r")
    assert handler(7, context) == ("Orders", 7, context, ("r", True))


@pytest.mark.parametrize("wrong", ["handler", 7, classmethod(lambda _cls, _event, _context: None)])
def test_what_cannot_be_called_is_refused_where_it_is_decorated(wrong: Any) -> None:
    """Not with the first event."""
    with pytest.raises(TypeError, match=r"db\.invocation decorates a function that is called with event and context"):
        db.invocation(wrong)


def test_arguments_of_decorators_between_reach_the_handler() -> None:
    """Powertools' own pass theirs on by name."""

    def take(event: Any, context: Any, **named: Any) -> Any:
        return event, context, named["extra"]

    handler: Any = db.invocation(take)
    assert handler(event=1, context=None, extra=2) == (1, None, 2)


@pytest.fixture
def in_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that Lambda's runtime has started."""
    db.configure(db.Settings(url="sqlite://", shutdown_hook=False))
    monkeypatch.setattr(handler_decorator, "may_be_forgotten", True)
    monkeypatch.delenv("_X_AMZN_TRACE_ID", raising=False)


def unit() -> None:
    with db.begin():
        pass


def handle_event_request() -> None:
    """By the name of the function that calls handlers in Lambda's runtime."""
    unit()


def warnings_in(caplog: pytest.LogCaptureFixture) -> int:
    return sum("lacks @db.invocation" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("in_lambda")
@pytest.mark.parametrize("traced", [True, False])
def test_a_forgotten_decorator_is_warned_of_once(
    traced: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in Init, which has no invocation to bind."""
    unit()
    assert warnings_in(caplog) == 0
    if traced:
        monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-2-3")
    for _ in range(3):
        handle_event_request()
    assert warnings_in(caplog) == 1


@pytest.mark.usefixtures("in_lambda")
def test_a_handler_that_is_decorated_is_not_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what goes on after its invocation, in a thread."""
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-2-3")
    db.invocation(lambda _event, _context: unit())({}, None)
    unit()
    assert warnings_in(caplog) == 0


FORK_AMID_ANOTHERS_CALL = """
import os, threading
import db

runs, may_end = threading.Event(), threading.Event()

@db.invocation
def waits(event, context):
    runs.set()
    may_end.wait()

@db.invocation
def leaks(event, context):
    global left
    left = db.engine().connect()

other = threading.Thread(target=waits, args=({}, None))
other.start()
runs.wait()
if not os.fork():
    leaks({}, None)
    os._exit(0)
os.wait()
may_end.set()
other.join()
"""


def test_a_call_of_another_thread_does_not_go_on_in_a_forked_child() -> None:
    """Its end would be waited for: what is done once nobody is served, as the look for leaks, would never be."""
    environment = os.environ | {"DB_URL": "sqlite://", "POWERTOOLS_LOG_LEVEL": "WARNING"}
    command = [sys.executable, "-W", "ignore", "-c", FORK_AMID_ANOTHERS_CALL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert [json.loads(line)["connection_event"] for line in done.stderr.splitlines()] == ["leak"]
