"""What each unit of work costs on the wire, in round trips: a change for better or worse shows here."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import db
from db.settings import Settings

from .conftest import Use
from .warm_units import ONE, read, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.network.wire import Counts, Wire
    from devkit.plugin import Database, MakeWire

NUMBERS = itertools.count(1)


class Base(DeclarativeBase):
    pass


class Entry(Base):
    __tablename__ = "ledger"
    n: Mapped[int] = mapped_column(primary_key=True)


def three_reads() -> None:
    db.fetch(ONE, ONE, ONE, tenant="acme")


def reads_bit_by_bit() -> None:
    db.fetch(ONE.execution_options(stream_results=True), ONE.execution_options(yield_per=10), tenant="acme")


def known_up_front() -> None:
    db.write(ONE, tenant="acme")


def three_known_up_front() -> None:
    db.write(ONE, ONE, ONE, tenant="acme", isolation="SERIALIZABLE")


def ten_savepoints() -> None:
    with db.begin(tenant="acme") as tx:
        for _ in range(10):
            with tx.begin_nested():
                tx.execute(ONE)


def snapshot() -> None:
    with db.read(tenant="acme", snapshot=True) as conn:
        conn.execute(ONE)
        conn.execute(ONE)


def nothing() -> None:
    with db.begin(tenant="acme"):
        pass


def run() -> None:
    db.run(lambda tx: tx.execute(ONE), tenant="acme")


def session() -> None:
    with db.session(tenant="acme") as orm:
        orm.add_all([Entry(n=next(NUMBERS)), Entry(n=next(NUMBERS))])


def load() -> None:
    db.copy_rows("ledger", [[next(NUMBERS)], [next(NUMBERS)]], columns=["n"], tenant="acme")


@pytest.fixture
def counted(database: Database, wire: MakeWire, use: Use) -> Callable[..., Wire]:
    """The layer behind a counting wire, without TLS, as in a network that has none."""

    def configure(**settings: Any) -> Wire:
        proxy = wire()
        url = make_url(database.through(proxy).url())
        db.configure(Settings(**({"url": url, "sslmode": "disable"} | settings)))
        return proxy

    return configure


def cost(proxy: Wire, work: Callable[[], None]) -> Counts:
    before = proxy.counts()
    work()
    return proxy.counts() - before


@pytest.mark.parametrize(
    ("work", "trips"),
    [
        (write, 2),  # BEGIN and prologue with the statement; COMMIT
        (read, 1),  # prologue and statement are one read-only transaction, which ends by itself
        (three_reads, 1),  # known up front, they leave together
        (reads_bit_by_bit, 1),  # all of their rows are there when the call returns
        (known_up_front, 1),  # BEGIN and prologue, the statement, and COMMIT
        (three_known_up_front, 1),  # the same, and the level is a word of BEGIN
        (ten_savepoints, 11),  # SAVEPOINT and RELEASE ride with what comes next
        (snapshot, 3),  # BEGIN and prologue with the first statement; the second; ROLLBACK
        (nothing, 0),
    ],
)
def test_a_warm_unit_of_work(work: Callable[[], None], trips: int, counted: Callable[..., Wire]) -> None:
    """On a kept connection, with a tenant and time limits."""
    proxy = counted()
    work()
    spent = cost(proxy, work)
    assert (spent.trips, spent.connections) == (trips, 0)


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("work", "trips"),
    [
        (session, 2),  # the flush of both rows opens the transaction; COMMIT
        (run, 2),
        (load, 4),  # BEGIN, by which a dead connection shows; COPY; the rows; COMMIT
    ],
)
def test_what_is_built_of_units(work: Callable[[], None], trips: int, counted: Callable[..., Wire]) -> None:
    """Likewise. tests/postgres/test_batch.py and test_once.py count theirs."""
    proxy = counted()
    work()
    spent = cost(proxy, work)
    assert (spent.trips, spent.connections) == (trips, 0)


def test_the_first_transaction_of_a_process(counted: Callable[..., Wire]) -> None:
    """Three to connect, none to get to know the server, two for the transaction."""
    spent = cost(counted(), write)
    assert (spent.trips, spent.connections) == (5, 1)


def test_each_transaction_of_a_null_pool(counted: Callable[..., Wire]) -> None:
    """Three to connect and two for the transaction; nothing waits for the close."""
    proxy = counted(pool="null")
    write()
    spent = cost(proxy, write)
    assert (spent.trips, spent.connections) == (5, 1)


def test_a_ping_is_free(counted: Callable[..., Wire]) -> None:
    """DB_POOL_PRE_PING looks at the socket, so it costs no trip to have it on."""
    proxy = counted(pool_pre_ping=False)
    write()
    assert cost(proxy, write).trips == 2
