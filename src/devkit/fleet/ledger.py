"""What the callers of a fleet know, and, held against the table, what became of it. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from devkit.lambda_runtime.environment import TIMEOUT_ERROR

from .environment import EXIT_ERROR

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from .environment import Answer

# The errors that say that the write may have taken place: the layer's, and Lambda's own ends of an invocation.
UNKNOWN = frozenset({"OutcomeUnknownError", TIMEOUT_ERROR, EXIT_ERROR})

_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Entry:
    """One invocation: the id that its caller chose, when it was answered and after how long, and how."""

    name: str
    at_s: float
    took_s: float
    answer: Answer

    @property
    def failed(self) -> bool:
        return self.answer.error is not None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the invocations of one function came to.

    ``unknown`` of those that failed said that the write may have taken place. ``lost`` were answered and are not in the
    table, ``duplicated`` are there twice, ``misreported`` failed with an error that says no such thing, and are there.
    ``retried`` and ``replayed`` count transactions that the layer ran again, and first flights that it sent again over
    a new connection; ``waited`` are connects that had to wait. ``held_max`` is the most connections that the server
    held for the function at a time.
    """

    invoked: int
    answered: int
    failed: int
    unknown: int = 0
    lost: int = 0
    duplicated: int = 0
    misreported: int = 0
    retried: int = 0
    replayed: int = 0
    waited: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    held_max: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def audited(
    entries: Sequence[Entry],
    rows: Mapping[str, int],
    *,
    held_max: int | None = None,
    unknown: Collection[str] = UNKNOWN,
) -> Outcome:
    """The outcome of ``entries``, when ``rows`` says how often each id is in the table.

    ``unknown`` are the errors that say that the write may have taken place.
    """
    failed = [entry for entry in entries if entry.failed]
    events = sum((entry.answer.events for entry in entries), Counter[str]())
    times = sorted(entry.took_s * 1000 for entry in entries)
    return Outcome(
        invoked=len(entries),
        answered=len(entries) - len(failed),
        failed=len(failed),
        unknown=sum(entry.answer.error in unknown for entry in failed),
        lost=sum(not entry.failed and entry.name not in rows for entry in entries),
        duplicated=sum(rows.get(entry.name, 0) > 1 for entry in entries),
        misreported=sum(entry.answer.error not in unknown and entry.name in rows for entry in failed),
        retried=events["retry"],
        replayed=events["replay"],
        waited=events["connect waits"],
        errors=dict(Counter(_kind(entry) for entry in failed).most_common()),
        p50_ms=round(percentile(times, 0.5), 1),
        p99_ms=round(percentile(times, 0.99), 1),
        max_ms=round(times[-1], 1) if times else 0.0,
        held_max=held_max,
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of ``ordered`` that at least ``share`` of them do not exceed; 0 of none."""
    return ordered[max(math.ceil(len(ordered) * share) - 1, 0)] if ordered else 0.0


def _kind(entry: Entry) -> str:
    """The error without what differs from one to the next."""
    message = _NUMBER.sub("…", entry.answer.message)
    return f"{entry.answer.error}: {message}" if message else str(entry.answer.error)
