"""What counts as a sign of a switchover, and for how long."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from db.pool.switchover import SUSPECT_S, Switchover, serve_until, serves_until


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Reporting:
    """A driver's connection to a server that reported ``settings``: as psycopg tells it, and as asyncpg does."""

    def __init__(self, **settings: str) -> None:
        self.info = SimpleNamespace(parameter_status=settings.get)


class AsyncpgReporting:
    def __init__(self, **settings: str) -> None:
        self.get_settings = lambda: SimpleNamespace(**settings)


def bounded(switchover: Switchover, connection: Any, *, writes: bool = True) -> float:
    switchover.bound(connection, writes=writes)
    return serves_until(connection)


def test_without_a_sign_a_connection_serves_for_good() -> None:
    """As most do."""
    assert bounded(Switchover(Clock()), Reporting(in_hot_standby="off")) == math.inf


def test_what_is_opened_soon_after_a_sign_serves_until_that_is_old() -> None:
    """Counted from the sign, so what is opened later serves for less."""
    clock = Clock()
    switchover = Switchover(clock)
    switchover.suspect()
    clock.now += SUSPECT_S - 1
    assert bounded(switchover, Reporting()) == 100 + SUSPECT_S
    clock.now += 1
    assert bounded(switchover, Reporting()) == math.inf


@pytest.mark.parametrize("reporting", [Reporting, AsyncpgReporting])
@pytest.mark.parametrize("said", [{"default_transaction_read_only": "on"}, {"in_hot_standby": "on"}])
def test_a_server_that_takes_no_writes_is_not_kept_for_them(reporting: Any, said: dict[str, str]) -> None:
    """For reads alone it is as good as any."""
    assert bounded(Switchover(Clock()), reporting(**said)) == 100 + SUSPECT_S
    assert bounded(Switchover(Clock()), reporting(**said), writes=False) == math.inf


@pytest.mark.parametrize("reporting", [Reporting, AsyncpgReporting])
def test_a_server_that_says_nothing_is_believed(reporting: Any) -> None:
    """Before PostgreSQL 14 none did, and a pooler does not."""
    assert bounded(Switchover(Clock()), reporting()) == math.inf


def test_the_earlier_of_two_bounds_holds() -> None:
    """Below an adapter of SQLAlchemy's as without one."""
    driver = Reporting()
    serve_until(SimpleNamespace(driver_connection=driver), 50)
    serve_until(driver, 70)
    assert serves_until(driver) == 50


def spells(switchover: Switchover, clock: Clock, *, of: int) -> list[float]:
    """How long each of ``of`` connections serves, opened one after another on a server with read-only sessions."""
    found = []
    for _ in range(of):
        until = bounded(switchover, Reporting(default_transaction_read_only="on"))
        found.append(until - clock.now)
        clock.now = min(until, clock.now + 600)
    return found


def test_sessions_that_are_meant_to_be_read_only_are_believed_in_the_end() -> None:
    """No name is late for minutes: a role that is so by intention pays for four connects, and for no more."""
    clock = Clock()
    assert spells(Switchover(clock), clock, of=6) == [30, 60, 120, 240, math.inf, math.inf]


def test_a_sign_and_a_writable_session_make_it_news_again() -> None:
    """What it was before says nothing of a server that has been switched."""
    clock = Clock()
    switchover = Switchover(clock)
    spells(switchover, clock, of=6)
    switchover.suspect()
    clock.now += SUSPECT_S
    assert spells(switchover, clock, of=2) == [30, 60]
    assert bounded(switchover, Reporting(default_transaction_read_only="off")) == math.inf
    assert spells(switchover, clock, of=1) == [30]


def test_connections_that_are_opened_meanwhile_serve_for_as_long() -> None:
    """Those of a pool of several, and of db.aio: they are told of the same server."""
    clock = Clock()
    switchover = Switchover(clock)
    assert [bounded(switchover, Reporting(default_transaction_read_only="on")) for _ in range(3)] == [130, 130, 130]


def test_a_clock_that_is_set_back_begins_anew() -> None:
    """It makes no hours of what was to last a minute."""
    clock = Clock()
    switchover = Switchover(clock)
    clock.now = 9_000.0
    bounded(switchover, Reporting(default_transaction_read_only="on"))
    clock.now = 100.0
    assert bounded(switchover, Reporting(default_transaction_read_only="on")) == 100 + 2 * SUSPECT_S
