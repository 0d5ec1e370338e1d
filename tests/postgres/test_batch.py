"""The records of a batch in one transaction."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from typing import TYPE_CHECKING, Any, Literal

import pytest
from sqlalchemy import exc, make_url, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import db
from db.environment import process
from db.settings import Settings
from tests.dialect.twins import alarm

from .conftest import Lines, Use
from .fix_once import effects, tenants_effects  # noqa: F401 - fixtures
from .test_once import NOTE, keys, noted
from .test_units_of_work import KILL_AT_COMMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from devkit.network.wire import Wire
    from devkit.plugin import Database, MakeLambdaContext, MakeWire
    from devkit.servers.postgres import Postgres

pytestmark = pytest.mark.usefixtures("effects")

QUEUE = "arn:aws:sqs:eu-central-1:123456789012:orders"
TRIPS = 101  # one for each of a hundred records, the first with BEGIN and prologue; COMMIT


def message(identifier: str, body: Any, *, group: str | None = None, tenant: str | None = None) -> dict[str, Any]:
    """A record of a queue; of a FIFO queue with ``group``."""
    return {
        "messageId": identifier,
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {} if group is None else {"MessageGroupId": group},
        "messageAttributes": {} if tenant is None else {"tenant": {"stringValue": tenant, "dataType": "String"}},
        "eventSource": "aws:sqs",
        "eventSourceARN": QUEUE if group is None else f"{QUEUE}.fifo",
    }


def on_kinesis(number: int, what: str) -> dict[str, Any]:
    data = base64.b64encode(json.dumps({"note": what}).encode()).decode()
    return {"eventSource": "aws:kinesis", "kinesis": {"sequenceNumber": f"{number}", "data": data}}


def of_dynamodb(number: int, what: str) -> dict[str, Any]:
    return {
        "eventSource": "aws:dynamodb",
        "dynamodb": {"SequenceNumber": f"{number}", "NewImage": {"note": {"S": what}}},
    }


def queue(*notes: str) -> dict[str, Any]:
    """A batch of a standard queue: record ``1`` notes the first, and so on."""
    return {"Records": [message(str(number), {"note": what}) for number, what in enumerate(notes, 1)]}


def note_it(tx: Connection, record: Any) -> None:
    tx.execute(NOTE, {"note": record.json_body["note"]})


def note_kinesis(tx: Connection, record: Any) -> None:
    tx.execute(NOTE, {"note": record.kinesis.data_as_json()["note"]})


def note_image(tx: Connection, record: Any) -> None:
    tx.execute(NOTE, {"note": record.dynamodb.new_image["note"]})


def failed(answer: Any) -> list[str]:
    assert list(answer) == ["batchItemFailures"]
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


@pytest.fixture
def wired(database: Database, wire: MakeWire, effects: None) -> Wire:  # noqa: F811 - the fixture
    """The layer behind a wire."""
    proxy = wire()
    db.configure(Settings(url=make_url(database.through(proxy).url()), sslmode="disable"))
    db.run(lambda tx: tx.execute(text("SELECT 1")))
    return proxy


def test_of_a_hundred_records_ten_bad_ones_fail_alone(wired: Wire, database: Database, postgres: Postgres) -> None:
    """The others commit together, and a record costs a trip."""
    bad = {str(number) for number in range(5, 101, 10)}
    event = queue(*("bad" if str(number) in bad else f"{number:03}" for number in range(1, 101)))
    before = wired.counts()
    assert set(failed(db.batch(event, note_it))) == bad
    assert (wired.counts() - before).trips == TRIPS
    assert len(noted(postgres, database)) == 90


@pytest.mark.parametrize("body", ["not json", "", "{", "[]", '{"other": 1}'])
def test_a_record_that_cannot_be_read_fails_alone(body: str, database: Database, postgres: Postgres) -> None:
    """Whatever its handler makes of it."""
    event = {"Records": [message("1", {"note": "a"}), message("2", body), message("3", {"note": "c"})]}
    assert failed(db.batch(event, note_it)) == ["2"]
    assert noted(postgres, database) == ["a", "c"]


class Base(DeclarativeBase):
    pass


class Effect(Base):
    __tablename__ = "effects"
    note: Mapped[str] = mapped_column(primary_key=True)


def test_a_flush_that_fails_leaves_its_neighbours_their_sessions(database: Database, postgres: Postgres) -> None:
    """With a session for each record, on the record's connection."""

    def store(tx: Connection, record: Any) -> None:
        with Session(tx) as orm:
            orm.add(Effect(note=record.json_body["note"]))
            orm.commit()

    assert failed(db.batch(queue("a", "bad", "c"), store)) == ["2"]
    assert noted(postgres, database) == ["a", "c"]


def test_an_error_that_the_handler_swallows_fails_its_record(database: Database, postgres: Postgres) -> None:
    """The server would take nothing more from it, and the next record shall not pay for that."""

    def store(tx: Connection, record: Any) -> None:
        with contextlib.suppress(exc.IntegrityError):
            note_it(tx, record)

    assert failed(db.batch(queue("a", "bad", "c"), store)) == ["2"]
    assert noted(postgres, database) == ["a", "c"]


def test_a_handler_may_mend_its_own_error(database: Database, postgres: Postgres) -> None:
    """In a savepoint of its own."""

    def store(tx: Connection, record: Any) -> None:
        try:
            with tx.begin_nested():
                note_it(tx, record)
        except exc.IntegrityError:
            tx.execute(NOTE, {"note": "mended"})

    assert failed(db.batch(queue("a", "bad", "c"), store)) == []
    assert noted(postgres, database) == ["a", "c", "mended"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_batch_that_lost_its_connection_runs_again(wrapped: bool, database: Database, postgres: Postgres) -> None:
    """All of it, since nothing had committed; also where the handler makes an error of its own of the loss."""
    seen: list[str] = []

    def store(tx: Connection, record: Any) -> None:
        seen.append(record.message_id)
        if seen == ["1", "2"]:
            postgres.terminate(database.name)
        try:
            note_it(tx, record)
        except exc.DBAPIError as error:
            if wrapped:
                raise LookupError from error
            raise

    assert failed(db.batch(queue("a", "b", "c"), store)) == []
    assert seen == ["1", "2", "1", "2", "3"]
    assert noted(postgres, database) == ["a", "b", "c"]


def test_a_batch_whose_commit_got_no_answer_is_reported_whole(
    wired: Wire, database: Database, postgres: Postgres
) -> None:
    """And runs again when it is delivered again; with ``db.once`` to no further effect."""

    def store(tx: Connection, record: Any) -> None:
        db.once(record.message_id, tx=tx).run(note_it, record)

    wired.cut_at(2 * 2 + 1, lost="answer")  # two statements of each record; COMMIT
    assert failed(db.batch(queue("a", "b"), store)) == ["1", "2"]
    assert failed(db.batch(queue("a", "b"), store)) == []
    assert (noted(postgres, database), keys(postgres, database)) == (["a", "b"], 2)


def test_a_backend_that_dies_at_commit_leaves_nothing_and_reports_all(database: Database, postgres: Postgres) -> None:
    """Nobody can know, so all come again."""
    postgres.execute(KILL_AT_COMMIT.replace("ledger", "effects"), database=database.name)
    assert failed(db.batch(queue("a", "b"), note_it)) == ["1", "2"]
    assert noted(postgres, database) == []


def test_a_database_that_is_away_reports_all(use: Use, lambda_context: MakeLambdaContext) -> None:
    """As an answer, not as an error that would hide which."""
    use(
        url=make_url("postgresql://app:x@127.0.0.1:1/none"),
        connect_timeout_s=2,
        connect_wait_s=0,
        deadline_reserve_s=0.1,
    )
    call = db.invocation(lambda _event, _context: db.batch(queue("a", "b"), note_it))
    assert failed(call({}, lambda_context(remaining_s=1))) == ["1", "2"]


def test_what_no_time_is_left_for_is_returned(
    use: Use, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """Untouched, and what was done commits."""
    use(deadline_reserve_s=1)
    seen: list[str] = []

    def store(tx: Connection, record: Any) -> None:
        seen.append(record.message_id)
        note_it(tx, record)
        if len(seen) == 2:
            time.sleep(2)  # the handler's own time, beyond what is left without the reserve

    call = db.invocation(lambda _event, _context: db.batch(queue("a", "b", "c", "d"), store))
    assert failed(call({}, lambda_context(remaining_s=2.9))) == ["3", "4"]
    assert (seen, noted(postgres, database)) == (["1", "2"], ["a", "b"])


def test_a_slow_record_takes_no_neighbour_along(
    use: Use, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """Its statement ends while there is still time to commit the rest."""
    use(deadline_reserve_s=0.5)

    def store(tx: Connection, record: Any) -> None:
        note_it(tx, record)
        if record.message_id == "2":
            tx.execute(text("SELECT pg_sleep(60)"))

    call = db.invocation(lambda _event, _context: db.batch(queue("a", "b", "c"), store))
    assert failed(call({}, lambda_context(remaining_s=4))) == ["2"]
    assert noted(postgres, database) == ["a", "c"]


@pytest.mark.parametrize(("skip_group", "returned"), [(True, ["1", "3"]), (False, ["1", "2", "3", "4"])])
def test_a_fifo_queue_keeps_its_order(
    skip_group: bool, returned: list[str], database: Database, postgres: Postgres
) -> None:
    """What follows a failure in its message group goes back untouched; or all that follows, if so told."""
    notes = [("1", "bad", "g"), ("2", "b", "h"), ("3", "c", "g"), ("4", "d", "h")]
    event = {"Records": [message(n, {"note": what}, group=group) for n, what, group in notes]}
    assert failed(db.batch(event, note_it, skip_group_on_error=skip_group)) == returned
    assert noted(postgres, database) == ([] if len(returned) == 4 else ["b", "d"])


def test_a_standard_queue_with_groups_has_no_order(database: Database, postgres: Postgres) -> None:
    """They share a consumer fairly, and may overtake each other."""
    records = [message(n, {"note": what}, group="g") for n, what in (("1", "bad"), ("2", "b"))]
    assert failed(db.batch({"Records": [r | {"eventSourceARN": QUEUE} for r in records]}, note_it)) == ["1"]
    assert noted(postgres, database) == ["b"]


@pytest.mark.parametrize(("record", "handler"), [(on_kinesis, note_kinesis), (of_dynamodb, note_image)])
def test_a_stream_stops_at_its_first_failure(
    record: Callable[[int, str], Any], handler: Callable[..., None], database: Database, postgres: Postgres
) -> None:
    """Lambda goes on from the sequence number in the answer, so nothing after it has run."""
    event = {"Records": [record(n, what) for n, what in ((101, "a"), (102, "bad"), (103, "c"), (104, "bad"))]}
    assert failed(db.batch(event, handler)) == ["102"]
    assert noted(postgres, database) == ["a"]


def test_a_record_that_comes_twice_in_a_batch_runs_once(database: Database, postgres: Postgres) -> None:
    """Two deliveries differ in their receipt only."""
    once, other = message("1", {"note": "a"}), message("2", {"note": "b"})
    event = {"Records": [once | {"receiptHandle": "x"}, other, once | {"receiptHandle": "y"}]}
    assert failed(db.batch(event, note_it)) == []
    assert noted(postgres, database) == ["a", "b"]


def test_records_that_share_an_id_and_differ_are_reported(database: Database, postgres: Postgres) -> None:
    """Neither runs: an answer could not tell them apart."""
    event = {"Records": [message("1", {"note": "a"}), message("2", {"note": "b"}), message("1", {"note": "c"})]}
    assert failed(db.batch(event, note_it)) == ["1"]
    assert noted(postgres, database) == ["b"]


def tenant_of(record: Any) -> str | None:
    attribute = record.message_attributes["tenant"]
    return attribute.string_value if attribute is not None else None


@pytest.mark.usefixtures("tenants_effects")
def test_each_record_has_its_own_tenant(database: Database, postgres: Postgres) -> None:
    """Whatever became of the one before it; and none, where it names none."""
    tenants = ["acme", "globex", "acme", "acme", None, "x" * 300, "globex", "o'brien\"; --"]
    notes = ["a", "bad", "c", "bad", "e", "f", "g", "h"]
    event = {
        "Records": [
            message(str(n), {"note": what}, tenant=tenant)
            for n, (what, tenant) in enumerate(zip(notes, tenants, strict=True), 1)
        ]
    }
    assert failed(db.batch(event, note_it, tenant=tenant_of)) == ["2", "4", "5", "6"]
    rows = postgres.execute("SELECT tenant_id, note FROM effects ORDER BY note", database=database.name)
    assert rows == [("acme", "a"), ("acme", "c"), ("globex", "g"), ("o'brien\"; --", "h")]


def test_a_record_without_a_required_tenant_fails_alone(use: Use, database: Database, postgres: Postgres) -> None:
    """One tenant for all of them may be named, or bound around."""
    use(tenant_required=True)
    event = {"Records": [message("1", {"note": "a"}), message("2", {"note": "b"}, tenant="acme")]}
    assert failed(db.batch(event, note_it, tenant=tenant_of)) == ["1"]
    with db.scope(tenant="globex"):
        assert failed(db.batch(queue("c"), note_it)) == []
    assert failed(db.batch(queue("d"), note_it, tenant="acme")) == []
    rows = postgres.execute("SELECT tenant_id, note FROM effects ORDER BY note", database=database.name)
    assert rows == [("acme", "b"), ("globex", "c"), ("acme", "d")]


def test_a_constraint_that_fails_at_commit_is_the_fault_of_its_record(database: Database, postgres: Postgres) -> None:
    """All run again, each checked by itself; the rest commits."""
    assert failed(db.batch(queue("a", "a", "c"), note_it)) == ["2"]
    assert noted(postgres, database) == ["a", "c"]


def test_a_handler_that_ends_the_transaction_fails_the_batch(database: Database, postgres: Postgres) -> None:
    """It is not his; nothing runs after it that could not be undone."""
    seen: list[str] = []

    def store(tx: Connection, record: Any) -> None:
        seen.append(record.message_id)
        note_it(tx, record)
        tx.rollback()

    assert failed(db.batch(queue("a", "b"), store)) == ["1", "2"]
    assert (seen, noted(postgres, database)) == (["1"], [])


def test_a_whole_batch_that_failed_may_be_raised(database: Database, postgres: Postgres) -> None:
    """For who counts on Lambda's error metric; a part of it is answered as ever."""
    with pytest.raises(ExceptionGroup, match="all 2 records") as caught:
        db.batch(queue("bad", "bad"), note_it, raise_on_entire_batch_failure=True)
    assert {type(error) for error in caught.value.exceptions} == {exc.IntegrityError}
    assert failed(db.batch(queue("bad", "b"), note_it, raise_on_entire_batch_failure=True)) == ["1"]
    assert db.batch({"Records": []}, note_it, raise_on_entire_batch_failure=True) == {"batchItemFailures": []}


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"Records": None},
        {"Records": [7]},
        {"Records": [{"eventSource": "aws:s3"}]},
        {"Records": [{"eventSource": "aws:sqs", "body": "{}"}]},
        {"Records": [message("", "{}")]},
        {"Records": [{"eventSource": "aws:kinesis", "kinesis": None}]},
    ],
)
def test_an_event_of_another_kind_is_an_error(event: Any) -> None:
    """There are no ids that an answer could name; Lambda takes the error for the whole batch."""
    with pytest.raises(ValueError, match=r"Records|known source|no id"):
        db.batch(event, note_it)
    assert db.status()["totals"]["connects"] == 0


class Model:
    """What Powertools' parser gives for a record, as far as it is read here."""

    def __init__(self, raw: Any) -> None:
        self.note = json.loads(raw["body"])["note"]

    @classmethod
    def model_validate(cls, raw: Any) -> Model:
        return cls(raw)


def test_a_record_that_its_model_refuses_fails_alone(database: Database, postgres: Postgres) -> None:
    """The others reach the handler as the model."""

    def store(tx: Connection, record: Model) -> None:
        tx.execute(NOTE, {"note": record.note})

    event = {"Records": [message("1", "{}"), message("2", {"note": "b"})]}
    assert failed(db.batch(event, store, model=Model)) == ["1"]
    assert noted(postgres, database) == ["b"]


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_snapshot_that_is_too_old_is_taken_anew(
    isolation: Literal["REPEATABLE READ", "SERIALIZABLE"], database: Database, postgres: Postgres
) -> None:
    """No savepoint mends that, so all of the batch runs again."""
    postgres.execute("CREATE TABLE sums (n int)", database=database.name)
    postgres.execute(f"INSERT INTO sums VALUES (0); GRANT ALL ON sums TO {database.app}", database=database.name)
    seen: list[str] = []

    def add(tx: Connection, record: Any) -> None:
        tx.execute(text("SELECT n FROM sums")).scalar_one()
        if not seen:
            postgres.execute("UPDATE sums SET n = 100", database=database.name)
        seen.append(record.message_id)
        tx.execute(text("UPDATE sums SET n = n + 1"))

    assert failed(db.batch(queue("a", "b"), add, isolation=isolation)) == []
    assert seen == ["1", "1", "2"]
    assert postgres.execute("SELECT n FROM sums", database=database.name) == [(102,)]


def test_settings_that_are_wrong_are_said_and_all_records_come_again(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in the log; no record has run."""
    db.dispose()
    monkeypatch.setattr(process.DEFAULT, "_runtime", None)
    monkeypatch.setenv("DB_POOL", "big")
    seen: list[Any] = []
    assert failed(db.batch(queue("a", "b"), lambda _tx, record: seen.append(record))) == ["1", "2"]
    (line,) = [vars(record) for record in lines.records if record.getMessage() == "batch"]
    assert (len(line["to_mend"]), seen) == (1, [])


def test_a_line_says_what_failed_without_values(lines: Lines) -> None:
    """By type and SQLSTATE, and the first ids."""
    db.batch({"Records": [message("1", "secret"), message("2", {"note": "bad"}), message("3", {"note": "c"})]}, note_it)
    (line,) = [vars(record) for record in lines.records if record.getMessage() == "batch"]
    assert (line["batch_records"], line["batch_failed"], line["first_failed"]) == (3, 2, ["1", "2"])
    assert line["reasons"] == {"JSONDecodeError": 1, "IntegrityError 23514": 1}
    not_json, refused = line["errors"]
    assert re.match(r"JSONDecodeError: Expecting value: line 1 column 1, at test_batch.py:\d+ in note_it$", not_json)
    assert "violates check constraint … (effects_note_check, effects), at test_batch.py:" in refused
    assert "secret" not in str(line)


def test_a_line_has_one_error_of_a_kind_and_no_message_of_a_users(lines: Lines) -> None:
    """A message may repeat what stands in the record; the place tells what it was."""

    def handle(_tx: Connection, record: Any) -> None:
        if record.message_id == "9":
            record.no_such_thing()
        raise LookupError(f"no customer {record.json_body['note']}")

    db.batch({"Records": [message(str(n), {"note": "secret"}) for n in range(10)]}, handle)
    (line,) = [vars(record) for record in lines.records if record.getMessage() == "batch"]
    unknown, mistaken = line["errors"]
    assert re.match(r"LookupError, at test_batch.py:\d+ in \S+handle$", unknown)
    assert mistaken.startswith("AttributeError: 'SQSRecord' object has no attribute 'no_such_thing', at test_batch.py:")
    assert "secret" not in str(line)


def test_an_exception_amid_a_statement_is_the_reason_for_all(lines: Lines) -> None:
    """It closes the connection, and whoever looks at that must not put another error in its place."""

    class TimeIsUpError(Exception):
        pass

    def handle(tx: Connection, record: Any) -> None:
        note_it(tx, record)
        if record.message_id == "2":
            with alarm(0.1, TimeIsUpError):
                tx.execute(text("SELECT pg_sleep(30)"))

    assert failed(db.batch(queue("a", "b", "c"), handle)) == ["1", "2", "3"]
    (line,) = [vars(record) for record in lines.records if record.getMessage() == "batch"]
    assert (line["reasons"], len(line["errors"])) == ({"TimeIsUpError": 3}, 1)


class OfElsewhereError(Exception):
    sqlstate = "40001"


def fails_at_each_attempt(tx: Connection) -> None:
    tx.execute(text("SELECT stale()"))


def writes_in_a_read_of_its_own(_tx: Connection) -> None:
    with db.read() as conn:
        conn.execute(NOTE, {"note": "a mistake"})


def has_another_database(_tx: Connection) -> None:
    raise OfElsewhereError


class StoppedError(Exception):
    """As an alarm of the function's own raises it; and below, as it had better."""


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("kind", [StoppedError, Stopped])
def test_an_alarm_ends_the_batch_by_its_class(
    kind: type[BaseException], database: Database, postgres: Postgres
) -> None:
    """An Exception is the record's, and the others go on; what is none ends the batch, of which nothing is kept."""

    def store(tx: Connection, record: Any) -> None:
        note_it(tx, record)
        if record.json_body["note"] == "b":
            raise kind

    with pytest.raises(Stopped) if kind is Stopped else contextlib.nullcontext():
        assert failed(db.batch(queue("a", "b", "c"), store)) == ["2"]
    assert noted(postgres, database) == ([] if kind is Stopped else ["a", "c"])


@pytest.mark.parametrize("fails", [fails_at_each_attempt, writes_in_a_read_of_its_own, has_another_database])
def test_what_looks_like_the_transactions_failure_is_in_the_end_the_records_own(
    fails: Callable[[Connection], None], use: Use, database: Database, postgres: Postgres
) -> None:
    """Else it takes all along, at each delivery: a trigger's 40001, another transaction's 25006, another database's."""
    postgres.execute(
        "CREATE FUNCTION stale() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'stale' USING ERRCODE = 'serialization_failure'; END $$",
        database=database.name,
    )
    use(pool_size=2)

    def handle(tx: Connection, record: Any) -> None:
        note_it(tx, record)
        if record.message_id == "2":
            fails(tx)

    assert failed(db.batch(queue("a", "b", "c"), handle)) == ["2"]
    assert noted(postgres, database) == ["a", "c"]
