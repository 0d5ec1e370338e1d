"""Work that is done once for a key."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import pytest
from sqlalchemy import exc, make_url, text

import db
from db import aio
from db.settings import Settings
from devkit.fleet.once_storm import storm

from .conftest import Use
from .fix_once import effects, tenants_effects  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from devkit.plugin import Database, MakeLambdaContext, MakeWire
    from devkit.servers.postgres import Postgres

pytestmark = pytest.mark.usefixtures("effects")

TRIPS = 2  # BEGIN, prologue and the record's insert; COMMIT
TRIPS_WITH_RESULT = 2  # the result rides with COMMIT
TRIPS_OF_A_DUPLICATE = 3  # the insert that meets a record, the record, COMMIT

NOTE = text("INSERT INTO effects (note) VALUES (:note)")


def note(tx: Connection, what: str) -> dict[str, Any]:
    tx.execute(NOTE, {"note": what})
    return {"noted": what, "as": ("a", "tuple")}


def noted(postgres: Postgres, database: Database) -> list[str]:
    rows = postgres.execute("SELECT note FROM effects ORDER BY note", database=database.name)
    return [row[0] for row in rows]


def keys(postgres: Postgres, database: Database) -> int:
    return int(postgres.execute("SELECT count(*) FROM db_once", database=database.name)[0][0])


def waits_for_a_lock(postgres: Postgres, database: Database) -> None:
    """Return once a backend of the database does."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    until = time.monotonic() + 20
    while postgres.execute(waiting, [database.name]) == [(0,)]:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_function_runs_once_and_all_callers_get_its_result(database: Database, postgres: Postgres) -> None:
    """As JSON gives it back, the first caller's too."""
    first, second = db.once("k"), db.once("k")
    answers = [first.run(note, "one"), second.run(note, "two")]
    assert answers == [{"noted": "one", "as": ["a", "tuple"]}] * 2
    assert (first.replayed, second.replayed) == (False, True)
    assert noted(postgres, database) == ["one"]


def test_a_block_runs_once(database: Database, postgres: Postgres) -> None:
    """A duplicate is told so instead, with the result that the first one set."""
    for what in ("one", "two"):
        work = db.once("k")
        with pytest.raises(db.AlreadyDoneError) if what == "two" else contextlib.nullcontext() as done, work as tx:
            note(tx, what)
            work.result = [what]
    assert done is not None
    assert (done.value.result, work.result) == (["one"], ["one"])
    assert noted(postgres, database) == ["one"]


def test_a_block_is_skipped_where_the_error_is_suppressed(database: Database, postgres: Postgres) -> None:
    """The pattern for work without a result."""
    for _ in range(3):
        with contextlib.suppress(db.AlreadyDoneError), db.once("k") as tx:
            note(tx, "one")
    assert noted(postgres, database) == ["one"]


def test_what_raises_leaves_neither_record_nor_effect(database: Database, postgres: Postgres) -> None:
    """So the next caller is the first."""
    with pytest.raises(LookupError), db.once("k") as tx:
        note(tx, "one")
        raise LookupError
    assert (noted(postgres, database), keys(postgres, database)) == ([], 0)
    assert db.once("k").run(note, "two")["noted"] == "two"


def test_a_result_that_json_cannot_hold_undoes_the_work(database: Database, postgres: Postgres) -> None:
    """Nobody could be given it again."""
    with pytest.raises(TypeError, match="not JSON serializable"):
        db.once("k").run(lambda tx: (note(tx, "one"), object()))
    assert (noted(postgres, database), keys(postgres, database)) == ([], 0)


@pytest.mark.parametrize("make", [db.once, aio.once])
def test_a_payload_that_json_cannot_hold_is_refused_before_anything_is_sent(make: Any) -> None:
    """With its place: json's own error names a type alone. Things that hold themselves, and keys of two types, too."""
    circle: list[Any] = []
    circle.append(circle)
    for part, why in (
        (object(), r", at \['order'\]: .*object is not"),
        (circle, r", at \['order'\]\[0\]: Circular"),
        ({1: 1, "a": 2}, ": '<' not supported"),
    ):
        with pytest.raises(TypeError, match=f"JSON cannot hold the payload of db.once{why}"):
            make("k", payload={"order": part})
    assert db.status()["totals"]["connects"] == 0


@pytest.mark.parametrize("result", [None, 0, "", [], {"nul": "\x00", "lone": "\ud800", "much": "x" * 100_000}])
def test_any_json_is_a_result(result: Any) -> None:
    """None, which is not stored, and what PostgreSQL's own JSON would refuse among it."""
    assert [db.once("k").run(lambda _tx: result) for _ in range(2)] == [result, result]


@pytest.mark.parametrize("commits", [True, False])
def test_a_duplicate_waits_for_the_first(commits: bool, use: Use, database: Database, postgres: Postgres) -> None:
    """And has its result where it commits; is the first itself where it rolls back."""
    use(pool_size=2)
    work = db.once("k")
    with ThreadPoolExecutor(1) as beside, contextlib.suppress(LookupError), work as tx:
        note(tx, "first")
        work.result = {"noted": "first"}
        second = beside.submit(lambda: db.once("k").run(note, "second"))
        waits_for_a_lock(postgres, database)
        if not commits:
            raise LookupError
    winner = "first" if commits else "second"
    assert second.result()["noted"] == winner
    assert noted(postgres, database) == [winner]


def test_a_duplicate_waits_no_longer_than_for_any_lock(use: Use) -> None:
    """Then it fails, with the first still at work: the caller may ask again."""
    use(pool_size=2, lock_timeout_s=0.2)
    with ThreadPoolExecutor(1) as beside, db.once("k"):
        second = beside.submit(lambda: db.once("k").__enter__())
        with pytest.raises(exc.OperationalError) as caught:
            second.result(20)
    assert db.sqlstate(caught.value) == "55P03"


@pytest.mark.parametrize("first", [None, {"a": 1, "b": [2]}])
def test_another_payload_under_the_key_is_an_error(first: Any, database: Database, postgres: Postgres) -> None:
    """And does nothing; the same payload with its keys in another order is the same."""
    db.once("k", payload=first).run(note, "one")
    for form in (lambda: db.once("k", payload={"a": 2}).run(note, "two"), db.once("k", payload={"a": 2}).__enter__):
        with pytest.raises(db.KeyReusedError):
            form()
    same = {"b": [2], "a": 1} if first else None
    assert db.once("k", payload=same).run(note, "three")["noted"] == "one"
    assert noted(postgres, database) == ["one"]


def test_an_expired_key_is_new_again(database: Database, postgres: Postgres) -> None:
    """With another payload as well; its old record is replaced."""
    db.once("k", payload=1, expires_in_s=60).run(note, "one")
    postgres.execute("UPDATE db_once SET expires_at = now() - interval '1 second'", database=database.name)
    assert db.once("k", payload=2).run(note, "two")["noted"] == "two"
    assert (noted(postgres, database), keys(postgres, database)) == (["one", "two"], 1)


@pytest.mark.usefixtures("tenants_effects")
def test_a_key_is_its_tenants_own(database: Database, postgres: Postgres) -> None:
    """Each tenant's, and that of the work without one; none sees another's record."""
    for tenant in ("acme", "globex"):
        assert db.once("k", tenant=tenant).run(note, tenant)["noted"] == tenant
    assert db.once("k").run(lambda _tx: "nobody's") == "nobody's"
    with db.scope(tenant="acme"):
        assert db.once("k").run(note, "again")["noted"] == "acme"
        with db.read() as conn:
            assert conn.execute(text("SELECT tenant_id FROM db_once")).scalars().all() == ["acme"]
    assert (noted(postgres, database), keys(postgres, database)) == (["acme", "globex"], 3)


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_lost_commit_is_found_out(
    lost: Literal["request", "answer"], database: Database, postgres: Postgres, wire: MakeWire
) -> None:
    """Whether it reached the server or not, the work is done once and its result is given."""
    proxy = wire()
    db.configure(Settings(url=make_url(database.through(proxy).url()), sslmode="disable"))
    db.once("warm").run(lambda _tx: None)
    commit = TRIPS_WITH_RESULT + 1  # the effect is one
    cut = proxy.cut_at(commit, lost=lost)
    calls: list[str] = []

    def counted(tx: Connection) -> str:
        calls.append("once more")
        note(tx, "one")
        return str(len(calls))

    answer = db.once("k").run(counted)
    assert cut.fired
    assert (answer, len(calls)) == (("1", 1) if lost == "answer" else ("2", 2))
    assert noted(postgres, database) == ["one"]


def test_a_lost_commit_of_a_block_is_unknown_until_asked_again(
    database: Database, postgres: Postgres, wire: MakeWire
) -> None:
    """The key tells."""
    proxy = wire()
    db.configure(Settings(url=make_url(database.through(proxy).url()), sslmode="disable"))
    db.once("warm").run(lambda _tx: None)
    proxy.cut_at(3, lost="answer")
    with pytest.raises(db.OutcomeUnknownError), db.once("k") as tx:
        note(tx, "one")
    with pytest.raises(db.AlreadyDoneError), db.once("k"):
        pass
    assert noted(postgres, database) == ["one"]


def test_what_no_time_is_left_for_is_not_begun(use: Use, lambda_context: MakeLambdaContext) -> None:
    """Nothing is sent."""
    use(deadline_reserve_s=5)
    handler = db.invocation(lambda _event, _context: db.once("k").run(note, "one"))
    with pytest.raises(db.DeadlineError):
        handler({}, lambda_context(remaining_s=1))
    assert db.status()["totals"]["connects"] == 0


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\x00b", "\ud800", 7, None])
def test_a_key_that_is_none_is_refused(key: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(db.InvalidKeyError):
        db.once(key)


def test_a_key_may_hold_anything_else(database: Database, postgres: Postgres) -> None:
    """Up to its length, in any script, quotes and SQL included."""
    for key in ("\U0001f4a5" * 255, "'; DROP TABLE db_once; --", ' " \\ %s :key $1 '):
        assert [db.once(key).run(lambda _tx: 1), db.once(key).run(lambda _tx: 2)] == [1, 1]
    assert keys(postgres, database) == 3


@pytest.mark.parametrize("expires_in_s", [0, -1, float("nan"), float("inf"), 1e12])
def test_a_time_to_live_that_is_none_is_refused(expires_in_s: float) -> None:
    """Rather than overflow in the server."""
    with pytest.raises(ValueError, match="expires_in_s"):
        db.once("k", expires_in_s=expires_in_s)


def test_in_the_callers_transaction_it_commits_with_that(database: Database, postgres: Postgres) -> None:
    """What fails takes its record along, and nothing else."""
    with db.begin() as tx:
        assert db.once("k", tx=tx).run(note, "one") == db.once("k", tx=tx).run(note, "two")
        with pytest.raises(LookupError), db.once("failed", tx=tx):
            note(tx, "three")
            raise LookupError
    assert (noted(postgres, database), keys(postgres, database)) == (["one"], 1)
    with pytest.raises(LookupError), db.begin() as tx:
        db.once("gone", tx=tx).run(note, "four")
        raise LookupError
    assert (noted(postgres, database), keys(postgres, database)) == (["one"], 1)


def test_a_transaction_of_the_callers_has_its_own_tenant() -> None:
    """And its own isolation."""
    with db.begin() as tx, pytest.raises(TypeError, match="leave them out"):
        db.once("k", tenant="acme", tx=tx)


def test_a_snapshot_that_is_too_old_is_taken_anew(use: Use, database: Database, postgres: Postgres) -> None:
    """Under REPEATABLE READ the record that was waited for cannot be seen; ``run`` begins again, and sees it."""
    use(pool_size=2)
    work = db.once("k")
    with ThreadPoolExecutor(1) as beside, work as tx:
        second = beside.submit(lambda: db.once("k", isolation="REPEATABLE READ").run(note, "second"))
        waits_for_a_lock(postgres, database)
        work.result = note(tx, "first")
    assert second.result()["noted"] == "first"


def test_expired_records_of_all_tenants_are_purged(use: Use, database: Database, postgres: Postgres) -> None:
    """By the role that is there for it; it sees no others, and the application sees its own."""
    for number in range(5):
        db.once(str(number), tenant="acme" if number % 2 else "globex").run(lambda _tx: None)
    postgres.execute("UPDATE db_once SET expires_at = now() WHERE key <> '0'", database=database.name)
    assert db.purge_once() == 0
    use(role="owner")
    with db.read() as conn:
        assert conn.execute(text("SELECT count(*) FROM db_once")).scalar_one() == 4
    assert db.purge_once(limit=3) == 4
    assert keys(postgres, database) == 1


def test_a_record_that_can_be_neither_made_nor_seen_is_told(database: Database, postgres: Postgres) -> None:
    """Instead of asking for ever."""
    postgres.execute(
        "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE TRIGGER skip BEFORE INSERT ON db_once FOR EACH ROW EXECUTE FUNCTION skip()",
        database=database.name,
    )
    with pytest.raises(db.DbError, match="neither seen nor can be made"):
        db.once("k").run(note, "one")
    assert noted(postgres, database) == []


@pytest.mark.parametrize("missing", ["DROP TABLE db_once", "REVOKE ALL ON db_once FROM PUBLIC, {role}"])
def test_without_the_table_the_error_names_the_migration(missing: str, postgres: Postgres, database: Database) -> None:
    """Or without the rights to it."""
    postgres.execute(missing.format(role=database.app), database=database.name)
    with pytest.raises(db.ConfigurationError, match=r"db_once.*create_once_table"):
        db.once("k").run(note, "one")


def test_a_purge_is_for_no_tenant(use: Use) -> None:
    """Whatever is required or bound; of nothing it deletes nothing."""
    use(role="owner", tenant_required=True)
    assert db.purge_once() == 0
    with db.scope(tenant="acme"):
        assert db.purge_once() == 0
    assert db.purge_once(limit=0) == 0
    with pytest.raises(ValueError, match="-1"):
        db.purge_once(limit=-1)


@pytest.mark.parametrize(("result", "trips"), [(None, TRIPS), ("done", TRIPS_WITH_RESULT)])
def test_it_costs_one_trip_more_than_the_work(
    result: str | None, trips: int, database: Database, wire: MakeWire
) -> None:
    """The insert of its record, which carries BEGIN and the prologue; and one to write a result into that."""
    proxy = wire()
    db.configure(Settings(url=make_url(database.through(proxy).url()), sslmode="disable"))
    db.once("warm", tenant="acme").run(lambda _tx: None)
    before = proxy.counts()
    db.once("k", tenant="acme").run(lambda _tx: result)
    assert (proxy.counts() - before).trips == trips
    before = proxy.counts()
    db.once("k", tenant="acme").run(lambda _tx: "another")
    assert (proxy.counts() - before).trips == TRIPS_OF_A_DUPLICATE


def test_a_storm_of_duplicates_and_kills_has_each_effect_once(use: Use, database: Database, postgres: Postgres) -> None:
    """And every caller of a key gets the one result."""
    use(pool_size=10)
    came = storm(postgres, database, keys=20, duplicates=10, kill_every_s=0.02)
    assert came.effects == {f"key {number}": 1 for number in range(20)}
    assert {len(answers) for answers in came.answers.values()} == {1}
    assert len(came.answers) == 20
    assert came.kills > 0
