"""The connection ends between any two bytes, and each row is as its caller was told: there, not there, or in doubt.

``KILLS_EXAMPLES`` is the number of cuts of the slow test, 2,000 by default.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import make_url
from sqlalchemy.util import greenlet_spawn

import db
from devkit.network.faults import Speaker
from devkit.plugin import Door
from devkit.servers.doors import USUAL
from tests.doors import POOLERS, PROXIES, make_prologue, through

from .ledger import COMMITS, LAST, STEPS, Book, Way, Work, enter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.network.statements import PostgresWire
    from devkit.plugin import Database, MakeDoor

    from .conftest import Use

    Units = list[tuple[Way, list[str]]]
    Cuts = list[tuple[Speaker, float]]

pytestmark = [
    pytest.mark.usefixtures("quiet"),
    # What was open when its connection was killed is closed by nobody.
    pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning"),
]

COMMON = 20
MANY = int(os.environ.get("KILLS_EXAMPLES", "2000"))
CUTS = 5  # of each program
END = 150  # bytes: the answers to COMMIT, to the sync behind it, and to the COMMIT of what follows
NEVER = 2**60
PLAIN = settings(
    deadline=None,
    database=None,
    print_blob=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
OTHERS = "pg_stat_activity WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"

steps = st.lists(
    st.one_of(
        *(st.sampled_from(sorted(STEPS.keys() - COMMITS.keys() - LAST.keys())) for _ in range(3)),
        st.sampled_from(sorted(COMMITS)),
    ),
    max_size=4,
)
endings = st.lists(st.sampled_from(sorted(LAST)), max_size=1)
units = st.lists(
    st.tuples(st.sampled_from(get_args(Way)), st.builds(lambda first, last: first + last, steps, endings)),
    min_size=1,
    max_size=4,
)
cuts = st.lists(st.tuples(st.sampled_from(get_args(Speaker)), st.floats(0, 1)), min_size=CUTS, max_size=CUTS)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Whatever was left open is found here, and not amid the next test, which would be blamed for it."""
    yield
    gc.collect()


class Ledger:
    """The table, seen over a connection beside the wire."""

    def __init__(self, database: Database) -> None:
        url = make_url(database.url("owner")).set(drivername="postgresql")
        self._conn = psycopg.connect(url.render_as_string(False), autocommit=True)
        self._conn.execute("CREATE TABLE ledger (unit int, n int)")

    def clear(self) -> None:
        self._conn.execute("TRUNCATE ledger")

    def close(self) -> None:
        self._conn.close()

    def balance(self, book: Book) -> None:
        """Compare it with ``book``, once no session is in the middle of anything. Raises AssertionError."""
        while self._conn.execute(f"SELECT 1 FROM {OTHERS} AND state <> 'idle'").fetchall():
            time.sleep(0.001)
        found = Counter(self._conn.execute("SELECT unit, n FROM ledger").fetchall())
        doubled = sorted(key for key, times in found.items() if times > 1)
        assert not doubled, f"doubled: {doubled}"
        assert not book.certain - found.keys(), f"lost: {sorted(book.certain - found.keys())}"
        unknown: set[Any] = set().union(*book.unknown)
        assert not found.keys() - book.certain - unknown, (
            f"there, and reported as failed: {sorted(found.keys() - book.certain - unknown)}"
        )
        for commit in book.unknown:
            assert commit <= found.keys() or not commit & found.keys(), (
                f"half of a commit: {sorted(commit & found.keys())}"
            )


class Bench:
    """Does units over a wire that is cut."""

    def __init__(self, ledger: Ledger, wire: PostgresWire, *, is_async: bool) -> None:
        self._ledger, self._wire, self._is_async = ledger, wire, is_async

    def try_all(self, units: Units, cuts: Cuts) -> None:
        """``units`` with each of ``cuts`` in turn: the speaker, and the part of its bytes that pass."""
        sizes = {}
        for speaker in get_args(Speaker):
            counted = self._wire.cut_before(NEVER, of=speaker)
            book = self._do(units)
            assert not book.lost, f"nothing was cut: {book.lost}"
            sizes[speaker] = counted.passed
        for speaker, part in cuts:
            cut = self._wire.cut_before(1 + int(part * sizes[speaker]), of=speaker)
            book = self._do(units)
            assert len(book.lost) <= 1, f"units lost by one connection that was cut ({cut}): {book.lost}"

    def try_the_end(self, steps: list[str]) -> None:
        """A unit on a connection that is open, with a cut before each of the last bytes of its answers."""
        unit: Units = [("begin", steps)]
        self._do(unit)
        counted = self._wire.cut_before(NEVER, of="server")
        self._do(unit)
        for byte in range(max(counted.passed - END, 1), counted.passed + 1):
            self._do(unit)
            self._wire.cut_before(byte, of="server")
            self._do(unit)

    def _do(self, units: Units) -> Book:
        self._ledger.clear()
        book = Book()
        for number, (way, steps) in enumerate(units):
            enter(book, way, Work(number, steps, is_async=self._is_async))
        self._ledger.balance(book)
        return book


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    made = Ledger(database)
    yield made
    made.close()


SETTINGS: dict[str, dict[str, Any]] = {
    "with pings": {"pool_pre_ping": True},
    "without pings": {},
    "null pool": {"pool": "null"},
}

WAYS = [*((Door.DIRECT, pool) for pool in SETTINGS), *((door, "without pings") for door in PROXIES)]
MORE_WAYS = [*WAYS, *((door, "without pings") for door in POOLERS)]
by_each_way = pytest.mark.parametrize(("door", "pool"), WAYS, indirect=True)
by_each_of_more = pytest.mark.parametrize(("door", "pool"), MORE_WAYS, indirect=True)


@pytest.fixture(params=SETTINGS)
def pool(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SETTINGS[request.param]


@pytest.fixture
def broken(door: MakeDoor, pool: dict[str, Any], database: Database, use: Use) -> PostgresWire:
    """The wire that the layer is on, and that is cut."""
    if door.name is Door.RDS_PROXY:
        make_prologue(database.url("owner"), used_by=database.owner)
    wire = door()
    use(wire=wire, proxy=door.proxy, **pool)
    return wire


@pytest.fixture
def bench(broken: PostgresWire, ledger: Ledger) -> Bench:
    return Bench(ledger, broken, is_async=False)


@pytest.fixture
def on_loop(broken: PostgresWire, ledger: Ledger) -> Iterator[Callable[[Units, Cuts], None]]:
    bench = Bench(ledger, broken, is_async=True)
    with asyncio.Runner() as runner:
        yield lambda units, cuts: runner.run(greenlet_spawn(bench.try_all, units, cuts))
        runner.run(greenlet_spawn(db.dispose))


def all_balance(try_all: Callable[[Units, Cuts], None], *, number_of_cuts: int, number: int = 0) -> None:
    """Try so many cuts, the same ones for each ``number``. The shortest program that does not balance is printed."""

    @seed(number)
    @settings(PLAIN, max_examples=max(number_of_cuts // CUTS, 1))
    @given(units, cuts)
    def check(units: Units, cuts: Cuts) -> None:
        try:
            try_all(units, cuts)
        except AssertionError as error:
            error.add_note(f"{units}, {cuts} (seed {number})")
            raise

    check()


@pytest.mark.slow
@through(*USUAL)
def test_a_cut_between_any_two_bytes(bench: Bench) -> None:
    """Nothing is lost that was reported as committed, nothing is there that was not, and nothing twice."""
    all_balance(bench.try_all, number_of_cuts=COMMON)


@pytest.mark.slow
@through(*USUAL)
def test_a_cut_between_any_two_bytes_on_an_event_loop(on_loop: Callable[[Units, Cuts], None]) -> None:
    """Likewise."""
    all_balance(on_loop, number_of_cuts=COMMON)


@pytest.mark.slow
@by_each_way
@pytest.mark.parametrize("last", sorted(COMMITS | LAST))
def test_a_cut_at_the_very_end(bench: Bench, last: str) -> None:
    """Between any two bytes of the answers to a COMMIT, however it is sent."""
    bench.try_the_end(["row", last])


@pytest.mark.slow
@by_each_of_more
def test_thousands_of_cuts(bench: Bench) -> None:
    """Others, and many more."""
    all_balance(bench.try_all, number_of_cuts=MANY // 2 // len(MORE_WAYS), number=1)


@pytest.mark.slow
@by_each_of_more
def test_thousands_of_cuts_on_an_event_loop(on_loop: Callable[[Units, Cuts], None]) -> None:
    """Likewise."""
    all_balance(on_loop, number_of_cuts=MANY // 2 // len(MORE_WAYS), number=1)
