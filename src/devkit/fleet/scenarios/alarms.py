"""Alarms: an exception that a signal handler raises at any moment of a unit of work."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from devkit.fleet.environment import Function
from devkit.fleet.finding import OURS, PLAIN, Finding, nothing_lost
from devkit.fleet.fleet import under_load
from devkit.fleet.ledger import UNKNOWN, audited
from devkit.fleet.run import run
from devkit.fleet.site import Site, written
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devkit.fleet.environment import Environment
    from devkit.fleet.fleet import Fleet, Pause
    from devkit.fleet.fork_server import ForkServer
    from devkit.fleet.ledger import Entry, Outcome

OURS_ASYNCPG = "ours, asyncpg"
LONGEST_S = 300.0
SHARE_OF_PLAIN = 5


def alarms(fork_server: ForkServer, *, environments: int = 2, alarms: int = 1_000) -> Finding:
    """Until each function has met ``alarms``. It works on afterwards, on the one connection that its pool may have."""
    with Postgres() as server:
        site = Site(server)
        ours = {**site.variables(OURS, server), "DB_POOL_TIMEOUT_S": "2", "DB_ASYNC_CONNECTIONS": "1"}
        fleets = {
            OURS: (_function(OURS, ours), "all"),
            OURS_ASYNCPG: (_function(OURS, {**ours, "DB_ASYNC_DRIVER": "asyncpg"}), "aio"),
            PLAIN: (_function(PLAIN, site.variables(PLAIN, server)), "all"),
        }
        with run(fleets, size=environments, server=lambda: server, fork_server=fork_server) as running:
            for label, fleet in running.fleets.items():
                # One of plain's in three leaves it without a connection, and each wait for that takes its time.
                _until_all_rang(fleet, alarms if label != PLAIN else alarms // SHARE_OF_PLAIN)
            rows = written(server)
        found = {label: _Found(fleet.entries, rows) for label, fleet in running.fleets.items()}
    parts: dict[str, bool] = {}
    for label in (OURS, OURS_ASYNCPG):
        driver = label.partition(", ")[2]
        parts |= {f"{what} {driver}".rstrip(): held for what, held in found[label].parts(alarms).items()}
    return Finding(
        name="alarms",
        title=f"{alarms:,} alarms, raised by a signal handler at random moments of units of work of every kind",
        target="each heard once, 0 lost, 0 applied twice, 0 places of a pool lost",
        parts=parts,
        figures={label: one.figure() for label, one in found.items()},
        outcomes={label: one.outcome for label, one in found.items()},
        notes={label: one.notes() for label, one in found.items()},
    )


def _function(name: str, variables: dict[str, str]) -> Function:
    return Function(name, f"devkit.fleet.functions.alarmed.{name}", variables, timeout_s=20)


def _until_all_rang(fleet: Fleet, alarms: int) -> None:
    """Load on ``fleet`` until it has met ``alarms``. Raises RuntimeError where that takes too long."""
    enough = threading.Event()

    def count(_environment: Environment, _pause: Pause) -> None:
        if sum(_told(entry).get("rang", False) for entry in fleet.entries) >= alarms:
            enough.set()

    with under_load([fleet], count):
        if not enough.wait(LONGEST_S):
            raise RuntimeError(f"fewer than {alarms} alarms in {LONGEST_S:.0f} s")


def _told(entry: Entry) -> dict[str, Any]:
    return entry.answer.payload if isinstance(entry.answer.payload, dict) else {}


class _Found:
    """What became of the alarms of one function."""

    def __init__(self, entries: Sequence[Entry], rows: dict[str, int]) -> None:
        self._told = [_told(entry) for entry in entries]
        self.outcome: Outcome = audited(
            [_as_known_to_its_caller(entry) for entry in entries], rows, unknown=UNKNOWN | {_ALARM}
        )
        self._rang = sum(told.get("rang", False) for told in self._told)
        self._instead = Counter(str(told["instead"]) for told in self._told if told.get("instead"))
        self._unheard = sum(told["rang"] and not (told["heard"] or told["instead"]) for told in self._told if told)
        self._afterwards = Counter(str(told["afterwards"]) for told in self._told if told.get("afterwards"))
        self._failed = [entry for entry in entries if entry.failed]

    def parts(self, alarms: int) -> dict[str, bool]:
        return {
            f"{alarms:,} alarms": self._rang >= alarms,
            "each heard once": not self._unheard,
            "as itself": not (self._instead or self._failed),
            "works on afterwards": not self._afterwards,
            **nothing_lost(self.outcome),
        }

    def figure(self) -> str:
        told = [f"{self._rang:,} alarms"]
        for count, what in (
            (self._unheard, "not heard"),
            (self._instead.total() + len(self._failed), "heard as another error"),
            (self._afterwards.total(), "failed afterwards"),
            (self.outcome.lost, "lost"),
            (self.outcome.duplicated, "twice"),
            (self.outcome.misreported, "misreported"),
        ):
            told += [f"{count:,} {what}"] if count else []
        return ", ".join(told if len(told) > 1 else [*told, "each heard once"])

    def notes(self) -> dict[str, Any]:
        heard = Counter((told["work"], told["heard"] or "-") for told in self._told if told.get("rang"))
        return {
            "heard": {f"{work}: {how}": count for (work, how), count in sorted(heard.items())},
            "afterwards": dict(self._afterwards),
            "instead": dict(self._instead),
            "failed": dict(Counter(f"{e.answer.error}: {e.answer.message}" for e in self._failed)),
        }


_ALARM = "alarm"


def _as_known_to_its_caller(entry: Entry) -> Entry:
    """An alarm says nothing of the work that it struck in."""
    told = _told(entry)
    if entry.failed or not told or told["written"]:
        return entry
    error = _ALARM if told["written"] is None else "not written"
    return replace(entry, answer=replace(entry.answer, error=error))
