"""What was measured, as numbers with their names: the one form of every section's result, in memory and as JSON."""

from __future__ import annotations

import dataclasses
import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Series:
    """One ``measure`` of one peer at one work, in the rounds in which it was taken.

    ``measure`` names its unit: ``wall_us``, ``cpu_us``, ``trips``, ``connections``, ``bytes``. ``where`` says what else
    is to be known: on which core the server was, by which release, under TLS.
    """

    peer: str
    work: str
    measure: str
    delay_ms: float = 0
    where: str = ""
    rounds: list[list[float]]

    def median(self) -> float:
        return statistics.median(sample for taken in self.rounds for sample in taken)

    def medians(self) -> list[float]:
        """Of each round."""
        return [statistics.median(taken) for taken in self.rounds]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A section's series, and what they were measured with."""

    section: str
    made_on: str
    """The day, as ISO 8601 has it."""
    machine: dict[str, Any]
    versions: dict[str, str]
    noise: dict[str, float] = dataclasses.field(default_factory=dict)
    """What else ran on the machine meanwhile: ``quiet.Noise``."""
    series: list[Series]

    def find(self, peer: str, work: str, measure: str, delay_ms: float = 0, where: str = "") -> Series:
        """Raises KeyError where it was not measured."""
        wanted = (peer, work, measure, delay_ms, where)
        for series in self.series:
            if (series.peer, series.work, series.measure, series.delay_ms, series.where) == wanted:
                return series
        raise KeyError(wanted)

    def has(self, peer: str, work: str, measure: str, delay_ms: float = 0, where: str = "") -> bool:
        wanted = (peer, work, measure, delay_ms, where)
        return any((s.peer, s.work, s.measure, s.delay_ms, s.where) == wanted for s in self.series)

    def save(self, folder: Path) -> None:
        """As ``<section>.json``, one line for each series, so that a diff shows which have changed."""
        head = {key: value for key, value in dataclasses.asdict(self).items() if key != "series"}
        lines = ",\n".join(json.dumps(dataclasses.asdict(series)) for series in self.series)
        text = json.dumps(head, indent=2).removesuffix("\n}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.section}.json").write_text(f'{text},\n  "series": [\n{lines}\n  ]\n}}\n')


def load(folder: Path, sections: Sequence[str]) -> dict[str, Result]:
    """The results that are there, by section."""
    found = {}
    for section in sections:
        path = folder / f"{section}.json"
        if path.exists():
            content = json.loads(path.read_text())
            content["series"] = [Series(**series) for series in content["series"]]
            found[section] = Result(**content)
    return found
