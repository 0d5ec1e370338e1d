"""A server that is full, away or out of reach: waited for as long as there is time, and said when it was in vain."""

from __future__ import annotations

import dataclasses
import socket
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import exc, make_url, text

import db
from db.environment import process
from db.pool.connector import Connector
from db.settings import Settings
from devkit.plugin import Door
from devkit.servers.doors import USUAL
from devkit.servers.postgres import Postgres
from tests.doors import PROXIES, make_prologue, through

from .conftest import Lines, Use, backend_pid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.plugin import Database, MakeDoor, MakeLambdaContext


@pytest.fixture(scope="module")
def small() -> Iterator[Postgres]:
    """A server for two connections of ordinary roles, one of them mine to restart."""
    with Postgres(settings={"max_connections": "5"}) as server:  # 3 are kept for superusers
        server.create_role("guest", "guests")
        server.create_database("house", owner="guest")
        yield server


@pytest.fixture
def house(small: Postgres, door: MakeDoor) -> Iterator[Settings]:
    """The layer's way into it. PgBouncer takes both connections, one of them to ask for passwords by."""
    assert small.all_left("house")  # whoever was there before
    at_home = make_url(small.url("house", "guest", "guests"))
    make_prologue(at_home, used_by="guest")
    url = at_home.set(port=door(server=small, default_pool_size=1).port)
    settings = Settings(url=url, pool="null", proxy=door.proxy, sslmode="disable")
    db.configure(settings)
    yield settings
    db.dispose()
    process.DEFAULT._runtime = None


def guest(server: Postgres) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=server.host, port=server.port, dbname="house", user="guest", password="guests", autocommit=True
    )


def invoked(body: Callable[[], Any], context: Any) -> Any:
    return db.invocation(lambda _event, _context: body())({}, context)


@through(*USUAL, slow=PROXIES)
def test_who_finds_the_house_full_waits_for_room(
    small: Postgres, house: Settings, lambda_context: MakeLambdaContext, lines: Lines
) -> None:
    """The handler notices nothing but the time."""
    guests = [guest(small) for _ in range(2)]

    def go() -> None:
        for one in guests:
            one.close()

    leave = threading.Timer(0.5, go)
    leave.start()
    invoked(backend_pid, lambda_context(remaining_s=10))
    leave.join()
    (connect,) = lines.of("connect")
    assert connect["attempts"] > 1
    assert lines.of("connect waits")[0]["verdict"] == "wait until the database has a connection to give"


@through(*USUAL, slow=PROXIES)
def test_thirty_at_once_for_two_connections_all_get_their_turn(small: Postgres, house: Settings) -> None:
    """Nobody fails, and the server never holds more than it grants."""
    failures: list[BaseException] = []

    def visit() -> None:
        try:
            with db.engine().connect() as conn:
                conn.execute(text("SELECT 1"))
        except Exception as error:  # noqa: BLE001 - what the test asks for
            failures.append(error)

    visitors = [threading.Thread(target=visit) for _ in range(30)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(30)
    assert failures == []


@through(*USUAL, slow=PROXIES)
def test_room_that_does_not_come_has_an_error_of_its_own(
    small: Postgres, house: Settings, lambda_context: MakeLambdaContext
) -> None:
    """With the numbers, the server's own refusal behind it, and time left to answer."""
    with guest(small), guest(small):
        context = lambda_context(remaining_s=1.5)
        with pytest.raises(db.CapacityError, match=r"in \d+ attempts in [01]\.\d s: .*connection") as caught:
            invoked(backend_pid, context)
        assert context.get_remaining_time_in_millis() > 300
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert db.verdict(caught.value) is db.Verdict.WAIT_FOR_CAPACITY


@through(Door.DIRECT)
def test_an_attempt_that_outlasts_the_time_leaves_the_refusal_before_it(
    house: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which says what the matter was; that there was no time left for another attempt does not."""
    now = [0.0]
    connector = Connector(house, None, role="writer", clock=lambda: now[0])
    refusals = [psycopg.OperationalError("FATAL:  sorry, too many clients already")]

    def late(*_: Any) -> Any:
        if refusals:
            raise refusals.pop()
        now[0] = 100.0
        raise db.DeadlineError("no connection in the 0.130 s that were left")

    monkeypatch.setattr(connector, "_open", late)
    with pytest.raises(db.CapacityError, match=r"in 2 attempts in 100\.0 s: FATAL:  sorry, too many clients"):
        connector(db.engine().dialect, (), {})


@through(Door.DIRECT)
def test_a_refusal_of_other_credentials_is_not_what_an_overrun_was_about(house: Settings) -> None:
    """A password that has been replaced meanwhile would send whoever reads it the wrong way."""
    connector = Connector(house, None, role="writer", clock=lambda: 0.0)
    outcomes = [psycopg.OperationalError('FATAL:  password authentication failed for user "app"')]

    def late(*_: Any) -> Any:
        raise outcomes.pop() if outcomes else db.DeadlineError("no connection in the 0.130 s that were left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connector, "_open", late)
        patch.setattr(connector, "_renewed", lambda *_: True)
        with pytest.raises(db.DeadlineError, match=r"no connection in the 0\.130 s"):
            connector(db.engine().dialect, (), {})


@through(*USUAL, slow=PROXIES)
def test_a_refusal_for_want_of_room_is_remembered(small: Postgres, house: Settings) -> None:
    """So that the environment gives its connection back while the house is crowded."""
    db.configure(dataclasses.replace(house, connect_wait_s=0))
    crowding = process.current()._crowding
    before = crowding.crowded
    with guest(small), guest(small), pytest.raises(db.CapacityError):
        backend_pid()
    assert (before, crowding.crowded) == (False, True)


@through(*USUAL, slow=PROXIES)
def test_a_restart_is_waited_out(small: Postgres, house: Settings, lambda_context: MakeLambdaContext) -> None:
    """Shutting down, away, starting up: nothing has run, so the connect is tried again."""
    stopping = threading.Thread(target=small.restart)
    failures: list[BaseException] = []
    stopping.start()
    while stopping.is_alive():
        try:
            with db.engine().connect() as conn:
                conn.execute(text("SELECT 1"))
        except Exception as error:  # noqa: BLE001 - what the test asks for
            failures.append(error)
    stopping.join()
    invoked(backend_pid, lambda_context(remaining_s=10))
    assert failures == []


def test_a_name_that_does_not_resolve_is_tried_for_as_long_as_there_is_time(
    use: Use, database: Database, lines: Lines, lambda_context: MakeLambdaContext
) -> None:
    """During a failover the endpoint's name may be gone for a moment."""
    use(host="nowhere.invalid", sslmode="prefer")
    with pytest.raises(exc.OperationalError) as caught:
        invoked(backend_pid, lambda_context(remaining_s=2))
    (failed,) = lines.of("connect failed")
    assert failed["attempts"] > 1
    assert caught.value.orig is not None
    assert "attempts in" in caught.value.orig.__notes__[0]


@pytest.mark.parametrize("wrong", [{"name": "nowhere"}, {"sslmode": "require"}])
def test_what_waiting_cannot_mend_fails_at_once(use: Use, lines: Lines, wrong: dict[str, Any]) -> None:
    """Whoever made the mistake should hear of it now."""
    use(**wrong)
    with pytest.raises(exc.OperationalError):
        backend_pid()
    assert lines.of("connect waits") == []


def test_a_peer_that_says_nothing_leaves_time_to_answer(use: Use, lambda_context: MakeLambdaContext) -> None:
    """The driver itself waits two seconds at least, and longer for each further address."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use(host="127.0.0.1", port=silent.getsockname()[1])
        context = lambda_context(remaining_s=1.2)
        with pytest.raises(db.DeadlineError, match="no connection in the"):
            invoked(backend_pid, context)
        assert context.get_remaining_time_in_millis() > 200
