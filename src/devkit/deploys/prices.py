"""What to wait for and what to pay, said before anything is made. AWS's prices, from memory: to be checked there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# US dollars a month of 730 hours in us-east-1; other regions are up to half as much again.
SOURCE = "in US dollars a month, by us-east-1's list; check it: https://calculator.aws"
ENDPOINT = 15  # of Secrets Manager, in two zones at about $0.01 an hour
SECRET = 0.40
SECRETS = 4  # three roles, and the master's
ACU = 88  # $0.12 an hour
PROXY = 88  # $0.015 an hour and ACU, for eight at least
METRICS = 3  # eight of the functions' own at $0.30, and the alarms beyond ten

DATABASE_WAIT = "about 15 minutes, nearly all of it for Aurora"
APPLICATION_WAIT = "about 5 minutes the first time, for the functions' way into the network; 1 or 2 from then on"
DELETE_WAIT = "up to 40 minutes, as Lambda gives the functions' network interfaces back in its own time"


def database(parameters: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the database's stack costs with these ``parameters``, line by line."""
    return list(_database(parameters))


def _database(parameters: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    least, most = float(parameters.get("MinCapacity", 0)), float(parameters.get("MaxCapacity", 0))
    if least:
        yield f"Aurora, {least:g} ACU at least", f"{least * ACU:.0f}"
    else:
        yield "Aurora, while it pauses", "0, but for storage"
    yield f"Aurora, at work throughout with {most:g} ACU", f"at most {most * ACU:.0f}"
    yield "the endpoint of Secrets Manager", f"{ENDPOINT}"
    yield f"{SECRETS} secrets", f"{SECRET * SECRETS:.2f}"
    if parameters.get("Proxy") == "yes":
        yield "RDS Proxy", f"from {PROXY}"


def application() -> list[tuple[str, str]]:
    """What the application's stack costs where nobody calls it."""
    return [("metrics and alarms", f"{METRICS}"), ("calls", "by their number and length")]


def as_text(lines: list[tuple[str, str]], wait: str) -> str:
    """For a terminal."""
    width = max(len(what) for what, _ in lines)
    prices = "\n".join(f"  {what:<{width}}  {price}" for what, price in lines)
    return f"This takes {wait}.\nWhat it costs, {SOURCE}\n{prices}"
