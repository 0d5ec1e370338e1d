"""Reads go to the reader, unless they have to see a write, or it is gone, or it lags: with a real streaming replica."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url, text

import db
from db import aio
from db.environment import event_loop, process
from db.pool.reader_route import AWAY_S, ReaderRoute
from db.settings import Settings

from .conftest import Lines, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.plugin import Database, MakeWire
    from devkit.servers.replica import Cluster

    UseReader = Callable[..., None]

IN_RECOVERY = text("SELECT pg_is_in_recovery()")
COUNT = text("SELECT count(*) FROM seen")


@pytest.fixture
def use_reader(replicated: Cluster, replicated_database: Database) -> Iterator[UseReader]:
    """The layer on a primary and its standby, with a table ``seen(n)``."""
    owner = {"url": make_url(replicated_database.url("owner"))}
    db.configure(Settings(**owner))  # type: ignore[arg-type]
    with db.begin() as tx:
        tx.execute(text("CREATE TABLE seen (n int)"))
    replicated.catch_up()

    def configure(**settings: Any) -> None:
        reader = {"reader_host": replicated.reader.host, "reader_port": replicated.reader.port}
        db.configure(Settings(**(owner | reader | settings)))  # type: ignore[arg-type]

    yield configure
    db.dispose()


def reads_the_reader(**kwargs: Any) -> bool:
    with db.read(**kwargs) as conn:
        return bool(conn.execute(IN_RECOVERY).scalar_one())


def in_an_invocation(work: Callable[[], Any]) -> Any:
    return db.invocation(lambda _event, _context: work())({}, None)


def write() -> None:
    with db.begin() as tx:
        tx.execute(text("INSERT INTO seen VALUES (1)"))


def test_a_read_goes_to_the_reader_and_a_fresh_one_to_the_writer(use_reader: UseReader) -> None:
    """Both are read-only; fetch and snapshots go the same ways."""
    use_reader()
    assert [reads_the_reader(), reads_the_reader(snapshot=True)] == [True, True]
    assert [reads_the_reader(fresh=True), reads_the_reader(fresh=True, snapshot=True)] == [False, False]
    assert [db.fetch(IN_RECOVERY, fresh=fresh)[0].scalar_one() for fresh in (False, True)] == [True, False]


def test_db_check_says_which_of_two_endpoints_is_which(
    use_reader: UseReader, replicated: Cluster, replicated_database: Database
) -> None:
    """A reader that is one; a reader's endpoint that leads to the writer; and a writer's that leads to a replica."""

    def said(*subjects: str) -> list[tuple[str, str]]:
        found = {one.subject: one for one in db.check().findings}
        return [(found[subject].level, found[subject].seen.partition(":")[0]) for subject in subjects]

    use_reader()
    assert said("writes", "reader") == [("ok", "the server is a writer"), ("ok", "a replica answers")]
    use_reader(reader_host=replicated.endpoint.host, reader_port=replicated.endpoint.port)
    assert said("writes", "reader") == [("ok", "the server is a writer"), ("warning", "a writer answers")]
    db.configure(Settings(url=make_url(replicated_database.through(replicated.reader).url("owner"))))
    assert said("writes") == [("error", "the server is a replica, and takes none")]


def test_what_an_invocation_wrote_it_reads(use_reader: UseReader, replicated: Cluster) -> None:
    """Though the reader has not replayed it; the next invocation is back on the reader."""
    use_reader()
    replicated.pause_replay()

    def work() -> tuple[bool, bool, int]:
        before = reads_the_reader()
        write()
        with db.read() as conn:
            seen = conn.execute(COUNT).scalar_one()
        return before, reads_the_reader(), seen

    assert in_an_invocation(work) == (True, False, 1)
    assert in_an_invocation(reads_the_reader)


def test_a_transaction_that_rolled_back_wrote_nothing(use_reader: UseReader) -> None:
    """The reader will do."""
    use_reader()

    def work() -> bool:
        with pytest.raises(ZeroDivisionError), db.begin() as tx:
            tx.execute(text("INSERT INTO seen VALUES (1)"))
            raise ZeroDivisionError
        return reads_the_reader()

    assert in_an_invocation(work)


def test_a_reader_that_is_gone_is_stood_in_for(use_reader: UseReader, replicated: Cluster, lines: Lines) -> None:
    """By the writer, for whom it finds without a connection and for whom it had one; nothing fails."""
    use_reader()
    assert reads_the_reader()
    replicated.standby.kill()
    replicated.lose_standby()
    assert not reads_the_reader()
    assert not reads_the_reader()
    assert len(lines.of("reader away")) == 1
    assert db.status()["totals"]["connects"] == 2


def test_it_gets_another_chance(use_reader: UseReader, replicated: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that stood in is closed when the reader's time away is over."""
    use_reader()
    replicated.reader.refuse()
    assert not reads_the_reader()
    replicated.reader.accept()
    assert not reads_the_reader()
    clock: Callable[[], float] = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + AWAY_S)  # which the pool looks at
    process.current().reader_route.back()
    assert reads_the_reader()


@pytest.mark.parametrize(("snapshot", "options"), [(False, {}), (True, {"yield_per": 2})])
def test_a_reader_that_lags_is_not_asked(
    snapshot: bool, options: dict[str, int], use_reader: UseReader, *, replicated: Cluster, lines: Lines
) -> None:
    """What it answered is dropped, and the writer asked instead; how far behind it is came along with the answer."""
    use_reader(reader_max_lag_s=0.1)
    assert reads_the_reader(snapshot=snapshot)
    replicated.pause_replay()
    write()
    replicated.primary.execute("SELECT pg_sleep(0.2)")
    with db.read(snapshot=snapshot) as conn:
        assert conn.execute(COUNT, execution_options=options).scalar_one() == 1
    (line,) = lines.of("reader away")
    assert "s behind" in line["reason"]


def test_a_reader_that_has_replayed_nothing_yet_is_not_asked(
    use_reader: UseReader, replicated: Cluster, lines: Lines
) -> None:
    """It has just been started, and holds changes that nobody sees there: how old they are, it does not know."""
    use_reader(reader_max_lag_s=60)
    replicated.primary.execute("CHECKPOINT")
    replicated.catch_up()
    replicated.standby.execute("CHECKPOINT")  # so that there is nothing to replay at its start
    replicated.standby.execute("ALTER SYSTEM SET recovery_min_apply_delay = '1h'")
    replicated.standby.restart()
    write()
    with db.read() as conn:
        assert conn.execute(COUNT).scalar_one() == 1
    (line,) = lines.of("reader away")
    assert line["reason"] == "it is inf s behind"


def test_libpq_spreads_connections_over_the_addresses_of_a_name(database: Database, wire: MakeWire, use: Use) -> None:
    """DB_CONNECT_ARGS passes on what asks for it: here over two hosts, as it does over the addresses of one."""
    wires = [wire(), wire()]
    hosts = "&".join(f"host={one.host}:{one.port}" for one in wires)
    url = make_url(f"postgresql://{database.app}@/{database.name}?{hosts}").set(password=database.app_password)
    use(url=url, pool="null", connect_args={"load_balance_hosts": "random"})
    for _ in range(20):
        reads_the_reader()
    assert all(one.counts().connections > 0 for one in wires)  # but for one run in half a million


@pytest.fixture
def like_aurora(replicated: Cluster, replicated_database: Database) -> Iterator[Callable[[float], None]]:
    """The functions that Aurora's readers have; ``like_aurora(seconds)`` is what they tell of the lag."""
    replicated.primary.execute(
        """
        CREATE TABLE lag AS SELECT 0::float8 AS msec;
        CREATE FUNCTION aurora_db_instance_identifier() RETURNS text STABLE LANGUAGE sql AS $$
            SELECT CASE WHEN pg_is_in_recovery() THEN 'reader' ELSE 'writer' END $$;
        CREATE FUNCTION aurora_replica_status(OUT server_id text, OUT replica_lag_in_msec float8) RETURNS SETOF record
            STABLE SECURITY DEFINER LANGUAGE sql AS $$
            VALUES ('writer', NULL), ('reader', (SELECT msec FROM public.lag)), ('another', 9e9) $$;
        """,
        database=replicated_database.name,
    )
    # On RDS, rds.extensions is a setting of the server's.
    replicated.primary.execute(
        f"ALTER ROLE {replicated_database.owner} SET rds.extensions = 'address_standardizer, aurora_stat_utils, hstore'"
    )

    def lag(seconds: float) -> None:
        replicated.primary.execute("UPDATE lag SET msec = %s", [seconds * 1000], database=replicated_database.name)
        replicated.catch_up()

    lag(0.02)
    yield lag
    replicated.primary.execute(f"ALTER ROLE {replicated_database.owner} RESET rds.extensions")


@pytest.mark.parametrize("snapshot", [False, True])
def test_auroras_reader_is_asked_in_its_own_words(
    snapshot: bool, use_reader: UseReader, like_aurora: Callable[[float], None], lines: Lines
) -> None:
    """It has not the functions of others. That shows in its first answer, which is dropped: one more connect, once."""
    use_reader(reader_max_lag_s=2)
    assert [reads_the_reader(snapshot=snapshot) for _ in range(2)] == [True, True]
    assert db.status()["totals"]["connects"] == 2
    assert db.fetch(IN_RECOVERY)[0].scalar_one()
    like_aurora(2.5)
    assert [reads_the_reader(snapshot=snapshot) for _ in range(2)] == [False, False]
    (line,) = lines.of("reader away")
    assert line["reason"] == "it is 2.5 s behind"


def test_a_reader_that_lags_is_not_asked_on_asyncpg(use_reader: UseReader, replicated: Cluster, lines: Lines) -> None:
    """How far behind it is comes with the answer to BEGIN, as a number of rows, and costs no trip."""

    async def count(**arguments: Any) -> list[int]:
        async with aio.read(**arguments) as conn:
            return [int(await conn.scalar(statement)) for statement in (COUNT, text("SELECT pg_is_in_recovery()::int"))]

    async def cost() -> int:
        await count()
        before = replicated.reader.counts()
        await count()
        return (replicated.reader.counts() - before).trips

    try:
        use_reader(async_driver="asyncpg", sslmode="disable", reader_max_lag_s=0.1)
        assert event_loop.run(cost()) == 4  # two statements, and what is around them
        replicated.pause_replay()
        write()
        replicated.primary.execute("SELECT pg_sleep(0.2)")
        assert event_loop.run(count(snapshot=True)) == [1, 0]
        (line,) = lines.of("reader away")
        assert "it is 1.0 s behind" in line["reason"]
    finally:
        db.dispose()
        event_loop.close()


def test_auroras_reader_is_asked_in_its_own_words_on_asyncpg(
    use_reader: UseReader, like_aurora: Callable[[float], None], lines: Lines
) -> None:
    """By the number of rows as well."""

    async def is_reader() -> bool:
        async with aio.read() as conn:
            return bool(await conn.scalar(IN_RECOVERY))

    try:
        use_reader(async_driver="asyncpg", reader_max_lag_s=2)
        assert [event_loop.run(is_reader()) for _ in range(2)] == [True, True]
        like_aurora(2.5)
        assert not event_loop.run(is_reader())
        (line,) = lines.of("reader away")
        assert line["reason"] == "it is 3.0 s behind"
    finally:
        db.dispose()
        event_loop.close()


def test_any_lag_will_do_unless_one_is_set(use_reader: UseReader, replicated: Cluster) -> None:
    """And nothing is asked for it: Aurora's readers have no such functions."""
    use_reader()
    replicated.pause_replay()
    write()
    with db.read() as conn:
        assert conn.execute(COUNT).scalar_one() == 0


def test_a_route_remembers_for_a_while() -> None:
    """Then the reader is tried again."""
    now = [100.0]
    route = ReaderRoute(lambda: now[0], max_lag_s=2)
    assert route.is_near(2.0)
    assert not route.is_near(2.1)
    assert route.is_away
    now[0] += AWAY_S
    assert not route.is_away
