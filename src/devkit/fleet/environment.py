"""What a fleet asks of an execution environment, and the real one: Lambda's runtime under its emulator."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from devkit.lambda_runtime.environment import LambdaEnvironment

from .functions import CODE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EVENT_KEY = "connection_event"  # of the layer's log lines
WAITS = "waits"  # of connects, which log the first one alone, and at their end how many there were
EXIT_ERROR = "Runtime.ExitError"  # what Lambda calls the end of the process in an invocation


@dataclass(frozen=True)
class Function:
    """What is to run: ``handler`` (``module.function``), its variables, and how long it may take."""

    name: str
    handler: str
    variables: Mapping[str, str] = field(repr=False)
    timeout_s: int


@dataclass(frozen=True)
class Answer:
    """What an invocation came to. ``error`` is the type of what it raised, or Lambda's name for how it ended.

    ``events`` counts the lines that the layer logged, by ``connection_event``.
    """

    payload: Any = None
    error: str | None = None
    message: str = ""
    events: Counter[str] = field(default_factory=Counter)


class Environment(Protocol):
    """One execution environment: one invocation at a time, frozen in between, ended at any moment."""

    def invoke(self, event: dict[str, Any]) -> Answer:
        """The function's answer to ``event``. One that is frozen is thawed; one that has ended starts anew, cold."""
        ...

    def freeze(self) -> None:
        """Stop it where it is."""
        ...

    def end(self) -> None:
        """End it as Lambda does. On one that has ended it does nothing."""
        ...


def events_in(lines: Iterable[str]) -> Counter[str]:
    """How often each kind of event was logged, and how often connects waited in all of them."""
    found: Counter[str] = Counter()
    for line in lines:
        if EVENT_KEY not in line:
            continue
        try:
            told = json.loads(line)
            found[told[EVENT_KEY]] += 1
            found[WAITS] += told.get("attempts", 1) - 1
        except (ValueError, KeyError, TypeError, AttributeError):  # a line of somebody else's that holds the word
            continue
    return +found


def first_line(text: str) -> str:
    """The first line of an error's message, where drivers put what happened."""
    return text.partition("\n")[0]


class RealEnvironment:
    """``awslambdaric`` under the Runtime Interface Emulator; the end is told by SIGTERM."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._lambda: LambdaEnvironment | None = None
        self._lambda = self._started()

    def invoke(self, event: dict[str, Any]) -> Answer:
        if self._lambda is None or not self._lambda.alive:
            self._lambda = self._started()
        done = self._lambda.invoke(event)
        message = first_line(str(done.payload["errorMessage"])) if done.error else ""
        return Answer(None if done.error else done.payload, done.error, message, events_in(done.logs))

    def freeze(self) -> None:
        if self._lambda is not None and self._lambda.runtime_pid() is not None:
            self._lambda.freeze()

    def end(self) -> None:
        ended, self._lambda = self._lambda, None
        if ended is not None:
            ended.shutdown()

    def _started(self) -> LambdaEnvironment:
        function = self._function
        environment = LambdaEnvironment(
            handler=function.handler,
            code=[CODE],
            environment=function.variables,
            timeout_s=function.timeout_s,
            name=function.name,
        )
        environment.start()
        return environment
