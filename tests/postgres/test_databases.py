"""Two databases in one function: what each has for itself, and what they share."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
from alembic import command
from alembic.config import Config
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent
from sqlalchemy import Connection, exc, make_url, text

import db
from db import aio, migrations
from db.environment import event_loop, process, sigterm, snapstart
from db.powertools import OncePersistenceLayer
from devkit.servers.database import create_database, drop_database

from .fix_once import effects, tenants_effects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.plugin import Database, MakeLambdaContext, PutSecret
    from devkit.servers.postgres import Postgres

    from .conftest import Lines, Use

__all__ = ["effects", "tenants_effects"]  # fixtures

ONE = text("SELECT 1")
NOTE = text("INSERT INTO effects (note) VALUES (:note)")
NOTES = text("SELECT note FROM effects ORDER BY note")
SLOW = text("SELECT pg_sleep(5)")
BROKEN = text("SELECT nothing FROM nowhere")


@pytest.fixture
def place(postgres: Postgres) -> Iterator[Database]:
    """A second database on the same server, with roles of its own."""
    created = create_database(postgres)
    yield created
    drop_database(postgres, created)


@pytest.fixture
def audit(use: Use, place: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[db.Database]:
    """``effects(note)`` and ``db_once`` there, and a database by the variables that begin with AUDIT_DB_."""
    use()
    monkeypatch.setenv("AUDIT_DB_URL", place.url("owner"))
    made = db.Database.from_env(prefix="AUDIT_DB_")
    with made.begin() as tx:
        tx.execute(text("CREATE TABLE effects (note text UNIQUE)"))
    migrate_once(made, place)
    yield made
    made.dispose()
    event_loop.close()


def migrate_once(made: db.Database, place: Database) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    with made.begin() as tx:
        migrations.operations.create_once_table(
            Operations(MigrationContext.configure(tx)), used_by=[place.app], purged_by=place.app
        )


def notes(of: Any = db) -> list[str]:
    with of.read(fresh=True) as conn:
        return list(conn.execute(NOTES).scalars())


def note(tx: Connection, text_: str) -> str:
    tx.execute(NOTE, {"note": text_})
    return text_


async def note_later(tx: AsyncConnection, text_: str) -> str:
    await tx.execute(NOTE, {"note": text_})
    return text_


def note_body(tx: Connection, record: SQSRecord) -> str:
    return note(tx, record.body)


async def note_body_later(tx: AsyncConnection, record: SQSRecord) -> str:
    return await note_later(tx, record.body)


def note_id(tx: Connection, event: dict[str, str], _context: object) -> str:
    return note(tx, event["id"])


async def note_id_later(tx: AsyncConnection, event: dict[str, str], _context: object) -> str:
    return await note_later(tx, event["id"])


def test_a_unit_on_one_within_a_unit_on_the_other_needs_no_second_connection_of_either(
    effects: None, audit: db.Database
) -> None:
    """Each has its pool of one; and each commits and rolls back for itself."""
    with db.begin() as tx:
        note(tx, "order")
        with audit.begin() as other:
            note(other, "ordered")
        with pytest.raises(LookupError), audit.begin() as other:
            note(other, "undone")
            raise LookupError
    assert (notes(), notes(audit)) == (["order"], ["ordered"])
    with suppress(LookupError), db.begin() as tx:
        note(tx, "lost")
        audit.run(note, "kept")
        raise LookupError
    assert (notes(), notes(audit)) == (["order"], ["kept", "ordered"])
    assert [status["engines"]["writer"]["size"] for status in (db.status(), audit.status())] == [1, 1]
    assert [status["totals"]["connects"] for status in (db.status(), audit.status())] == [1, 1]


def test_every_call_works_on_the_second_database(audit: db.Database) -> None:
    """And nothing of it reaches the first, which has no such tables."""
    event = {"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": "batch"}]}
    with audit.session() as orm:
        orm.execute(NOTE, {"note": "session"})
    assert audit.batch(event, note_body) == {"batchItemFailures": []}
    assert [audit.once("k").run(note, "once") for _ in range(2)] == ["once", "once"]
    with audit.once("block") as tx, audit.once("within", tx=tx):
        note(tx, "block")
    handler = audit.idempotent(key="id")(note_id)
    assert [handler({"id": "idempotent"}) for _ in range(2)] == ["idempotent", "idempotent"]
    assert audit.copy_rows("effects", [("copied",)]) == 1
    assert audit.reflect(only=["effects"]).tables.keys() == {"effects"}
    assert audit.purge_once() == 0
    (result,) = audit.fetch(NOTES)
    assert list(result.scalars()) == ["batch", "block", "copied", "idempotent", "once", "session"]
    with audit.engine().connect() as conn:
        assert conn.execute(ONE).scalar_one() == 1
    assert db.status()["totals"]["connects"] == 0


def test_every_coroutine_call_works_on_the_second_database(audit: db.Database) -> None:
    """Likewise, and several at a time, as many as it has connections for."""
    event = {"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": "batch"}]}

    async def work() -> list[str]:
        async with audit.aio.begin() as tx, audit.aio.session(tx=tx) as orm:
            await orm.execute(NOTE, {"note": "session"})
        await audit.aio.batch(event, note_body_later)
        await audit.aio.once("k").run(note_later, "once")
        await audit.aio.idempotent(key="id")(note_id_later)({"id": "idempotent"})
        await audit.aio.copy_rows("effects", [("copied",)])
        await audit.aio.gather(*(audit.aio.run(note_later, str(number)) for number in range(6)))
        assert (await audit.aio.reflect()).tables.keys() == {"effects", "db_once"}
        assert await audit.aio.purge_once() == 0
        async with audit.aio.read() as conn, audit.aio.engine().connect() as plain:
            await plain.execute(ONE)
            assert (await conn.execute(ONE)).scalar_one() == 1
        (result,) = await audit.aio.fetch(NOTES)
        return list(result.scalars())

    found = event_loop.run(work())
    assert found == [*map(str, range(6)), "batch", "copied", "idempotent", "once", "session"]
    assert db.status()["totals"]["connects"] == 0


def test_another_databases_connection_is_refused_by_name(audit: db.Database) -> None:
    """What is done on it would not commit with it, or in the wrong place; whatever options it was given."""
    with db.begin() as ours, audit.begin() as theirs:
        with pytest.raises(TypeError, match=r"tx of audit\.once .*default database.*take db\.once"):
            audit.once("k", tx=ours)
        with (
            pytest.raises(TypeError, match=r"tx of db\.session .*the database 'audit'.*take audit\.session"),
            db.session(tx=theirs),
        ):
            pass
        with pytest.raises(TypeError, match=r"tx of db\.copy_rows .*'audit'"):
            db.copy_rows("effects", [], tx=theirs)
    with (
        audit.engine().execution_options(logging_token="x").connect() as plain,
        pytest.raises(TypeError, match="'audit'"),
        db.session(tx=plain),
    ):
        pass

    async def mixed() -> None:
        async with audit.aio.begin() as theirs:
            with pytest.raises(TypeError, match=r"tx of db\.aio\.once .*take audit\.aio\.once"):
                aio.once("k", tx=theirs)

    event_loop.run(mixed())


@pytest.mark.parametrize("name", [None, "audit"])
def test_a_failed_statement_names_its_own_database(audit: db.Database, name: str | None) -> None:
    """Not that of the block which its error leaves first; over an engine, and in coroutines, too."""
    its, other = (db, audit) if name is None else (audit, db)

    def over_an_engine() -> None:
        with other.begin(), its.engine().connect() as conn:
            conn.execute(BROKEN)

    def around() -> None:
        with its.begin() as tx, other.begin():
            tx.execute(BROKEN)

    async def awaited() -> None:
        of_its, of_other = (audit.aio if one is audit else aio for one in (its, other))
        async with of_its.begin() as tx, of_other.begin():
            await tx.execute(BROKEN)

    for fail in (over_an_engine, around, lambda: event_loop.run(awaited())):
        with pytest.raises(exc.ProgrammingError) as raised:
            fail()
        assert vars(raised.value)["database"] == name
        assert getattr(raised.value, "__notes__", []) == ([] if name is None else ["on the database 'audit'"])


def test_configure_is_refused_within_a_unit_of_the_same_database_alone(audit: db.Database) -> None:
    """The other's connections are not closed by it."""
    settings = process.current().settings
    with audit.begin() as tx:
        with pytest.raises(db.ConfigurationError, match=r"database 'audit': audit\.configure\(\) closes"):
            audit.configure()
        db.configure(settings)
        note(tx, "kept")
    with db.begin():
        audit.configure()
    assert notes(audit) == ["kept"]


def test_a_tenant_is_bound_for_both_and_required_by_each(
    tenants_effects: None, audit: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``db.scope`` is one; DB_TENANT_REQUIRED and AUDIT_DB_TENANT_REQUIRED are two."""
    monkeypatch.setenv("AUDIT_DB_TENANT_REQUIRED", "true")
    audit.configure()
    bound = text("SELECT current_setting('app.tenant_id', true)")
    with db.scope(tenant="acme"):
        assert [of.run(lambda tx: tx.execute(bound).scalar_one()) for of in (db, audit)] == ["acme", "acme"]
    with db.begin():
        pass
    with pytest.raises(db.TenantError, match=r"^database 'audit': AUDIT_DB_TENANT_REQUIRED is set"), audit.begin():
        pass


def test_a_write_to_one_sends_the_reads_of_that_one_to_its_writer(
    effects: None, use: Use, audit: db.Database, place: Database, lambda_context: MakeLambdaContext
) -> None:
    """And leaves those of the other to its reader."""
    audit.configure(db.Settings(url=make_url(place.url("owner")), reader_host=place.host))
    settings = process.current().settings
    assert settings.url is not None
    use(url=settings.url, reader_host=place.host)

    @db.invocation
    def handler(_event: object, _context: object) -> None:
        audit.run(note, "written")
        for of in (db, audit):
            of.fetch(ONE)

    handler({}, lambda_context())
    assert [set(status["engines"]) for status in (db.status(), audit.status())] == [{"reader"}, {"writer"}]


def test_one_deadline_bounds_both(audit: db.Database, lambda_context: MakeLambdaContext) -> None:
    """The statement of either is cut short by what the invocation has left."""

    @db.invocation
    def handler(of: Any, _context: object) -> str | None:
        try:
            with of.begin() as tx:
                tx.execute(SLOW)
        except exc.OperationalError as error:
            return db.sqlstate(error)
        return "not cut short"

    assert [handler(of, lambda_context(remaining_s=0.8)) for of in (db, audit)] == ["57014", "57014"]
    with pytest.raises(db.DeadlineError, match=r"^database 'audit': .*\(AUDIT_DB_DEADLINE_RESERVE_S\)"):
        handler(audit, lambda_context(remaining_s=0.1))


def test_lines_metrics_and_the_server_name_the_database(
    audit: db.Database, lines: Lines, capsys: pytest.CaptureFixture[str], lambda_context: MakeLambdaContext
) -> None:
    """The default one's are as they are where there is no other."""
    audit.dispose()
    capsys.readouterr()
    name = text("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")

    @db.invocation
    def handler(_event: object, _context: object) -> list[str]:
        return [of.run(lambda tx: tx.execute(name).scalar_one()) for of in (db, audit)]

    assert [shown.partition(":")[0] for shown in handler({}, lambda_context())] == ["db", "db/audit"]
    assert [line.get("database") for line in lines.of("connect")] == [None, "audit"]
    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [metric.get("database") for metric in metrics] == [None, "audit"]
    assert [metric["Connects"] for metric in metrics] == [[1.0], [1.0]]
    dimensions = [metric["_aws"]["CloudWatchMetrics"][0]["Dimensions"] for metric in metrics]
    assert ["database" in named for ((*named,),) in dimensions] == [False, True]


def test_a_statement_that_is_repeated_is_counted_for_each(
    audit: db.Database, lines: Lines, monkeypatch: pytest.MonkeyPatch, lambda_context: MakeLambdaContext
) -> None:
    """Each by its own budget."""
    monkeypatch.setenv("AUDIT_DB_STATEMENT_REPEATS", "2")
    audit.configure()

    @db.invocation
    def handler(_event: object, _context: object) -> None:
        for of in (db, audit):
            with of.begin() as tx:
                for _ in range(3):
                    tx.execute(ONE)

    handler({}, lambda_context())
    assert [(line["database"], line["runs"]) for line in lines.of("repeated statement")] == [("audit", 3)]


def test_what_a_handler_leaves_checked_out_is_warned_of_for_each(
    audit: db.Database, lines: Lines, lambda_context: MakeLambdaContext
) -> None:
    """By the name of the database."""
    left: list[Connection] = []

    @db.invocation
    def handler(_event: object, _context: object) -> None:
        left.append(audit.engine().connect())

    handler({}, lambda_context())
    assert [(line["database"], line["checked_out"]) for line in lines.of("leak")] == [("audit", 1)]
    left.pop().close()


def test_the_end_of_the_environment_closes_all(audit: db.Database, lines: Lines) -> None:
    """And a dispose, what it is asked for."""
    db.fetch(ONE)
    audit.fetch(ONE)
    sigterm.close_connections()
    assert lines.of("shutdown")[0]["closed"] == 2
    db.fetch(ONE)
    audit.fetch(ONE)
    db.dispose()
    assert [status["engines"]["writer"]["idle"] for status in (db.status(), audit.status())] == [0, 1]


def test_a_snapshot_holds_no_connection_of_either(audit: db.Database) -> None:
    """Nor does a copy of it take one for its own."""
    for of in (db, audit):
        of.fetch(ONE)
    snapstart.before_snapshot()
    assert not any(now.open_connections() for now in process.runtimes())
    audit.fetch(ONE)
    (opened,) = (found for now in process.runtimes() for found in now.open_connections())
    snapstart.after_restore(lambda: None)
    assert not any(now.open_connections() for now in process.runtimes())
    opened.close()  # a copy finds it open nowhere
    assert [len(of.fetch(ONE)) for of in (db, audit)] == [1, 1]


def test_a_forked_child_connects_for_itself(audit: db.Database) -> None:
    """And leaves the parent's connections to the parent."""
    pid = text("SELECT pg_backend_pid()")

    def backend() -> int:
        return int(audit.fetch(pid)[0].scalar_one())

    ours = backend()
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            code = 0 if backend() != ours else 2
        os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert backend() == ours


def test_it_has_a_secret_of_its_own(
    use: Use, place: Database, secret: PutSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By AUDIT_DB_SECRET_ID; what is wrong with the way there is said of that variable."""
    use()
    where = {"host": place.host, "port": place.port, "dbname": place.name}
    secret(place.name, {"engine": "postgres", "username": place.app, "password": place.app_password, **where})
    monkeypatch.setenv("AUDIT_DB_SECRET_ID", place.name)
    audit = db.Database.from_env(prefix="AUDIT_DB_")
    assert audit.fetch(text("SELECT current_user"))[0].scalar_one() == place.app
    monkeypatch.setenv("AUDIT_DB_HOST", "a b")
    audit.configure()
    with pytest.raises(db.ConfigurationError, match=r"^database 'audit': AUDIT_DB_HOST has blanks in it"):
        audit.engine().connect()
    audit.dispose()


def test_one_beside_it_is_sqlite(effects: None, tmp_path: Path) -> None:
    """Each refuses what it cannot do, in its own words."""
    local = db.Database(db.Settings(url=make_url(f"sqlite:///{tmp_path / 'local.db'}")), name="local")
    with db.begin(tenant="acme") as tx, local.begin() as other:
        note(tx, "order")
        other.execute(text("CREATE TABLE effects (note text)"))
        note(other, "ordered")
    assert (notes(), notes(local)) == (["order"], ["ordered"])
    with (
        pytest.raises(db.ConfigurationError, match=r"^database 'local': local\.begin\(tenant=…\) on SQLite"),
        local.begin(tenant="acme"),
    ):
        pass
    with pytest.raises(db.ConfigurationError, match=r"^database 'local': local\.run\(tenant=…\) on SQLite"):
        local.run(note, "refused", tenant="acme")
    local.dispose()


def test_powertools_decorator_keeps_its_records_where_it_is_told(
    effects: None, audit: db.Database, lambda_context: MakeLambdaContext
) -> None:
    """Functions of two databases within one another do not take a savepoint of each other's transaction."""
    ours, theirs = OncePersistenceLayer(), OncePersistenceLayer(database=audit)
    config, context = IdempotencyConfig(event_key_jmespath="id"), cast("LambdaContext", lambda_context())

    @idempotent(persistence_store=theirs, config=config)
    def inner(event: dict[str, str], _context: LambdaContext) -> str:
        return note(theirs.tx, event["id"])

    @idempotent(persistence_store=ours, config=config)
    def outer(event: dict[str, str], context: LambdaContext) -> str:
        note(ours.tx, event["id"])
        inner(event, context)
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            outer({"id": "k"}, context)
    assert (notes(), notes(audit)) == ([], ["k"])


REVISION = """
from alembic import op
from db.migrations.operations import create_once_table

revision, down_revision = "0001", None

def upgrade():
    op.execute("CREATE TABLE effects (note text)")
    create_once_table(op, used_by=[])
"""


INI = """
[audit]
script_location = db:migrations
version_locations = %(here)s
path_separator = newline
database_prefix = AUDIT_DB_
"""


def test_its_schema_is_migrated_by_name(
    use: Use, place: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``upgrade(database=…)`` migrates that one, as its section of alembic.ini does; the default one is left alone."""
    use()
    (tmp_path / "0001_effects.py").write_text(REVISION)
    monkeypatch.setenv("AUDIT_DB_URL", place.url("owner"))
    audit = db.Database.from_env(prefix="AUDIT_DB_")
    assert migrations.upgrade(tmp_path, database=audit).after == "0001"
    assert {"effects", "db_once"} < audit.reflect().tables.keys()
    assert dict(db.reflect().tables) == {}
    audit.run(lambda tx: tx.execute(text("DROP TABLE effects, db_once, alembic_version, db_revisions")))
    (tmp_path / "alembic.ini").write_text(INI)
    command.upgrade(Config(tmp_path / "alembic.ini", ini_section="audit"), "head")
    assert {"effects", "db_once"} < db.Database.from_env(prefix="AUDIT_DB_").reflect().tables.keys()
    monkeypatch.setenv("AUDIT_DB_PROXY", "pgbouncer")
    audit.configure()
    with pytest.raises(db.ConfigurationError, match=r"^database 'audit': .*AUDIT_DB_PROXY"):
        migrations.upgrade(tmp_path, database=audit)


def test_two_tasks_of_one_invocation_are_at_work_on_one_each(audit: db.Database) -> None:
    """The pools are two, and so are their limits."""

    async def work(of: Any) -> int:
        async with of.begin() as tx:
            return int((await tx.execute(ONE)).scalar_one())

    async def both() -> list[int]:
        return list(await asyncio.gather(work(aio), work(audit.aio)))

    assert event_loop.run(both()) == [1, 1]
