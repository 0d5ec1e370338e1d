"""What happens to applications, on each engine that the kit has: the same ends, or a refusal by name."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from sqlalchemy import Column, MetaData, Table, Text, exc, insert, inspect, make_url, select, text

import db
from db import migrations
from db.environment import process
from db.migrations import operations
from db.settings import Settings
from devkit.engines_table import PLAYED_ON, SCENARIOS, is_played
from devkit.servers.passwords import new_password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from db.settings.engines.kinds import EngineKind
    from devkit.network.wire import Wire
    from devkit.plugin import Database, MakeLambdaContext, PutSecret
    from devkit.servers.dsql import DsqlStandIn
    from devkit.servers.mariadb import MariaDb
    from devkit.servers.postgres import Postgres

notes = Table("notes", MetaData(), Column("id", Text, primary_key=True), Column("body", Text))
_SLOW_ON_SQLITE = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"
REVISION = """
revision = {name!r}
down_revision = {before!r}
import sqlalchemy as sa
from alembic import op
def upgrade():
    op.create_table("made_{name}", sa.Column("n", sa.Text), if_not_exists=True)
    {then}
"""


class Stage(NamedTuple):
    """One engine, and what can be done to it. ``settings`` are the values of ``Settings``."""

    settings: dict[str, Any]
    folder: Path
    context: MakeLambdaContext
    secret: Callable[[], PutSecret]
    slow: str
    wire: Wire | None = None
    server: Postgres | MariaDb | None = None
    database: Database | None = None
    cluster: DsqlStandIn | None = None

    def use(self, **further: Any) -> None:
        db.configure(Settings(**(self.settings | further)))

    # What happens.

    def commits(self) -> None:
        db.run(write, "a")
        with db.begin() as tx:
            write(tx, "b")
        assert written() == ["a", "b"]

    def rolls_back(self) -> None:
        with contextlib.suppress(KeyError), db.begin() as tx:
            write(tx, "a")
            raise KeyError
        assert written() == []

    def only_reads(self) -> None:
        with pytest.raises(exc.DBAPIError) as refused, db.read() as conn:
            write(conn, "a")
        assert db.sqlstate(refused.value) == "25006"
        assert written() == []

    def savepoint(self) -> None:
        with db.begin() as tx:
            write(tx, "a")
            with contextlib.suppress(exc.IntegrityError), tx.begin_nested():
                write(tx, "a")
            write(tx, "b")
        assert written() == ["a", "b"]

    def tenants(self) -> None:
        with db.begin(tenant="acme") as tx:
            tx.execute(text("INSERT INTO owned VALUES ('a', 'acme')"))
        with db.read(tenant="globex") as conn:
            assert conn.execute(text("SELECT id FROM owned")).all() == []

    def deadline(self) -> None:
        @db.invocation
        def handler(_event: object, _context: object) -> None:
            with db.begin() as tx:
                write(tx, "a")
                tx.execute(text(self.slow))

        with pytest.raises(exc.DBAPIError) as cut:
            handler({}, self.context(remaining_s=1.2))
        assert (db.sqlstate(cut.value), db.verdict(cut.value)) == ("57014", db.Verdict.GIVE_UP)
        assert written() == []

    def same_row(self) -> None:
        self.use(pool_size=2, lock_timeout_s=0.2)
        db.run(write, "a")
        if self.cluster is not None:
            self.cluster.wire.conflict()  # the stand-in has none of its own
            assert db.run(change, "a", "later") == 1
        else:
            self._waited_for()
        with db.read() as conn:
            assert conn.execute(select(notes.c.body)).scalar_one() == "later"

    def _waited_for(self) -> None:
        held, gone = threading.Event(), threading.Event()

        def hold() -> None:
            with db.begin() as tx:
                change(tx, "a", "first")
                held.set()
                gone.wait(10)

        first = threading.Thread(target=hold)
        first.start()
        held.wait(10)
        with pytest.raises(exc.DBAPIError) as late, db.begin() as tx:
            change(tx, "a", "never")
        assert (db.sqlstate(late.value), db.verdict(late.value)) == ("55P03", db.Verdict.RETRY_TRANSACTION)
        gone.set()
        first.join()
        assert db.run(change, "a", "later") == 1

    def batch(self) -> None:
        arn = "arn:aws:sqs:eu-central-1:1:q"
        records = [
            {"messageId": body, "body": body, "eventSource": "aws:sqs", "eventSourceARN": arn}
            for body in ("a", "bad", "c")
        ]

        def handle(tx: Any, record: Any) -> None:
            write(tx, record.body)
            if record.body == "bad":
                raise ValueError(record.body)

        assert db.batch({"Records": records}, handle) == {"batchItemFailures": [{"itemIdentifier": "bad"}]}
        assert written() == ["a", "c"]

    def delivered_twice(self) -> None:
        first, again = db.once("key", payload=1), db.once("key", payload=1)
        assert first.run(write, "a") == again.run(write, "a") == "a"
        assert (first.replayed, again.replayed, written()) == (False, True, ["a"])

    def crash(self) -> None:
        with pytest.raises(KeyboardInterrupt), db.once("key") as tx:
            write(tx, "a")
            raise KeyboardInterrupt
        self.use()  # as the next process would
        again = db.once("key")
        assert (again.run(write, "a"), again.replayed, written()) == ("a", False, ["a"])

    def lost(self) -> None:
        assert self.wire is not None
        db.run(write, "a")
        self.wire.cut()
        with db.begin() as tx:  # no second try: what had not begun is sent again
            write(tx, "b")
        assert written() == ["a", "b"]

    def lost_commit(self) -> None:
        assert self.wire is not None
        db.run(write, "a")
        cut = self.wire.cut_at(2, lost="answer")
        with pytest.raises(db.OutcomeUnknownError), db.begin() as tx:
            write(tx, "b")
        assert cut.fired
        db.run(write, "c")
        before = self.wire.counts()
        db.once("before").run(write, "d")
        cut = self.wire.cut_at((self.wire.counts() - before).trips, lost="answer")
        done = db.once("key")
        assert (done.run(write, "e"), done.replayed, cut.fired) == ("e", True, True)
        assert written() == ["a", "b", "c", "d", "e"]

    def restarts(self) -> None:
        assert self.server is not None
        db.run(write, "a")
        self.server.restart()
        assert db.run(write, "b") == "b"
        assert written() == ["a", "b"]

    def password(self) -> None:
        if self.cluster is not None:
            self._token()
            return
        assert self.database is not None
        assert self.server is not None
        assert self.wire is not None
        role, name = self.database.owner, process.current().settings.engine_kind.name
        login = {"engine": name.replace("postgresql", "postgres"), "username": role, "dbname": self.database.name}
        login |= {"host": self.wire.host, "port": str(self.wire.port)}
        put, first, second = self.secret(), new_password(), new_password()
        secret_id = put("scenarios", json.dumps(login | {"password": first}))
        self._change(role, first)
        db.configure(Settings(secret_id=secret_id, engine=name, sslmode="disable"))  # type: ignore[arg-type]
        db.run(write, "a")
        self._change(role, second)
        put("scenarios", json.dumps(login | {"password": second}))
        self.wire.cut()
        assert db.run(write, "b") == "b"
        assert written() == ["a", "b"]
        self._change(role, self.database.owner_password)

    def _change(self, role: str, password: str) -> None:
        assert self.server is not None
        changes = {"postgresql": "ALTER ROLE {} PASSWORD '{}'", "mariadb": "ALTER USER {}@'%' IDENTIFIED BY '{}'"}
        self.server.execute(changes[self.settings["url"].get_backend_name()].format(role, password))

    def _token(self) -> None:
        assert self.cluster is not None
        wire, seen = self.cluster.wire, list[str]()
        db.run(write, "a")
        admits = wire.admits

        def refuses_once(user: str, token: str) -> bool:
            seen.append(token)
            return len(seen) > 1 and admits(user, token)

        wire.admits = refuses_once
        wire.cut()
        assert db.run(write, "b") == "b"
        wire.admits = admits
        assert (len(seen), written()) == (2, ["a", "b"])

    def migrates(self) -> None:
        self._revision("r1")
        assert migrations.upgrade(self.folder).after == "r1"
        again = migrations.upgrade(self.folder)
        assert (again.before, again.after) == ("r1", "r1")

    def migrates_at_last(self) -> None:
        self._revision("r1")
        self._revision("r2", "r1", "op.execute('INSERT INTO nowhere VALUES (1)')")
        with pytest.raises(exc.DBAPIError):
            migrations.upgrade(self.folder)
        stays = "migrations.upgrade" in process.current().settings.engine_kind.differs
        with db.engine().connect() as conn:
            assert inspect(conn).has_table("made_r2") is stays
        self._revision("r2", "r1")
        assert migrations.upgrade(self.folder).after == "r2"
        with db.read() as conn:
            assert conn.execute(text("SELECT count(*) FROM made_r2")).scalar_one() == 0

    def _revision(self, name: str, before: str | None = None, then: str = "pass") -> None:
        (self.folder / f"{name}.py").write_text(REVISION.format(name=name, before=before, then=then))


def write(tx: Any, name: str) -> str:
    tx.execute(insert(notes), {"id": name, "body": name})
    return name


def change(tx: Any, name: str, body: str) -> int:
    return int(tx.execute(notes.update().where(notes.c.id == name).values(body=body)).rowcount)


def written() -> list[str]:
    with db.read() as conn:
        return list(conn.execute(select(notes.c.id).order_by(notes.c.id)).scalars())


PLAYS: dict[str, Callable[[Stage], None]] = {
    "a transaction commits": Stage.commits,
    "an exception rolls it back": Stage.rolls_back,
    "a write where only reads were meant": Stage.only_reads,
    "an error within a savepoint": Stage.savepoint,
    "a tenant sees its own rows": Stage.tenants,
    "a statement outlasts the invocation": Stage.deadline,
    "another transaction is at the same row": Stage.same_row,
    "a batch with a record that fails": Stage.batch,
    "a key that is delivered twice": Stage.delivered_twice,
    "a crash between the work and its COMMIT": Stage.crash,
    "the connection is lost between two units": Stage.lost,
    "the answer to COMMIT is lost": Stage.lost_commit,
    "the server restarts": Stage.restarts,
    "the password or the token changes": Stage.password,
    "a migration, twice": Stage.migrates,
    "a migration that fails is tried again": Stage.migrates_at_last,
}


@pytest.fixture(params=PLAYED_ON)
def stage(request: pytest.FixtureRequest, tmp_path: Path, lambda_context: MakeLambdaContext) -> Iterator[Stage]:
    given: dict[str, Any] = {"folder": tmp_path, "context": lambda_context}
    given["secret"] = lambda: request.getfixturevalue("secret")
    match request.param:
        case "postgresql":
            database: Database = request.getfixturevalue("database")
            wire: Wire = request.getfixturevalue("wire")()
            url = make_url(database.through(wire).url("owner")).set(drivername="postgresql")
            server: Any = request.getfixturevalue("postgres")
            made = Stage({"url": url}, slow="SELECT pg_sleep(5)", wire=wire, server=server, database=database, **given)
        case "mariadb":
            database = request.getfixturevalue("mariadb_database")
            wire = request.getfixturevalue("mariadb_wire")()
            url = make_url(database.through(wire).url("owner")).set(drivername="mariadb")
            server, settings = request.getfixturevalue("mariadb"), {"url": url, "sslmode": "disable"}
            made = Stage(settings, slow="SELECT SLEEP(5)", wire=wire, server=server, database=database, **given)
        case "dsql":
            cluster: DsqlStandIn = request.getfixturevalue("dsql")
            server = request.getfixturevalue("postgres")
            settings = cluster.settings()
            made = Stage(
                settings, slow="SELECT pg_sleep(5)", wire=cluster.wire, server=server, cluster=cluster, **given
            )
        case _:
            made = Stage({"url": f"sqlite:///{tmp_path}/a.db"}, slow=_SLOW_ON_SQLITE, **given)
    made.use()
    _lay_ground(process.current().settings.engine_kind)
    yield made
    db.dispose()
    process.DEFAULT._runtime = None


def _lay_ground(kind: EngineKind) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    level = {"isolation_level": "AUTOCOMMIT"} if kind.commits_each_statement else {}
    with db.engine().connect().execution_options(**level) as conn:
        conn.execute(text("CREATE TABLE notes (id varchar(20) PRIMARY KEY, body varchar(20))"))
        op = Operations(MigrationContext.configure(conn))
        operations.create_once_table(op, used_by=[])
        if "tenant" in kind.can:
            conn.execute(text("CREATE TABLE owned (id text, tenant_id text)"))
            operations.enable_tenant_rls(op, "owned")
        conn.commit()


def _play(stage: Stage, scenario: str) -> None:
    stage.use()
    with db.begin() as tx:
        tx.execute(text("DELETE FROM notes"))
        tx.execute(text("DELETE FROM db_once"))
    kind = process.current().settings.engine_kind
    if is_played(scenario, kind):
        PLAYS[scenario](stage)
        return
    with pytest.raises(db.ConfigurationError, match=f" on {kind.title}: "):
        if SCENARIOS[scenario] == "server":
            stage.use(host="db.example.com")
        else:
            PLAYS[scenario](stage)
    assert written() == []


def test_each_scenario_ends_as_the_table_says(stage: Stage) -> None:
    """All of them on one database, as an application would meet them, one after another."""
    assert PLAYS.keys() == SCENARIOS.keys()
    wrong = {}
    for scenario in SCENARIOS:
        try:
            _play(stage, scenario)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - all cells are looked at
            wrong[scenario] = repr(error)
    assert wrong == {}
