"""What a scenario comes to: the outcome for each function, and whether ours reached the target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .ledger import Outcome

OURS, PLAIN = "ours", "plain"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What one function did over time, in seconds since the start: connections held, and each answer (did it fail?)."""

    held: Sequence[tuple[float, int]]
    answers: Sequence[tuple[float, bool]]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``parts`` are the target's conditions, and whether ours met each; ``figures`` is what the table shows for each
    function, or with ``by_door`` for ours on each driver at each door."""

    name: str
    title: str
    target: str
    parts: Mapping[str, bool]
    figures: Mapping[str, str]
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    by_door: bool = False

    @property
    def met(self) -> bool:
        """Whether ours reached all of the target."""
        return all(self.parts.values())

    def as_dict(self) -> dict[str, Any]:
        """All but the curves, which are drawn."""
        return {
            "name": self.name,
            "title": self.title,
            "target": self.target,
            "met": self.met,
            "parts": dict(self.parts),
            "figures": dict(self.figures),
            "outcomes": {label: outcome.as_dict() for label, outcome in self.outcomes.items()},
            "notes": dict(self.notes),
        }


def failures(outcome: Outcome) -> str:
    """For the table: what failed of what was asked, and what no failure may hide."""
    told = [f"{outcome.failed:,} of {outcome.invoked:,} failed"]
    told += [f"{outcome.unknown:,} of them unknown"] if outcome.unknown else []
    for count, what in ((outcome.lost, "lost"), (outcome.duplicated, "twice"), (outcome.misreported, "misreported")):
        told += [f"{count:,} {what}"] if count else []
    return ", ".join(told)


def nothing_lost(outcome: Outcome) -> dict[str, bool]:
    """The part of every target that is about writes."""
    return {
        "no acknowledged write lost": outcome.lost == 0,
        "none applied twice": outcome.duplicated == 0,
        "unknown outcomes said to be": outcome.misreported == 0,
    }
