"""Each call on each engine, cell by cell: it works, or it is refused by the names of the call and the engine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.utilities.idempotency import idempotent
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, exc, func, insert, make_url, select, text

import db
from db import aio, migrations
from db.environment import event_loop, process
from db.migrations import operations
from db.powertools import OncePersistenceLayer
from db.settings import Settings
from devkit.engines_table import CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from alembic.operations import Operations
    from sqlalchemy.ext.asyncio import AsyncConnection

    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.dsql import DsqlStandIn

notes = Table("notes", MetaData(), Column("id", Integer, primary_key=True), Column("body", Text))
COUNT = select(func.count()).select_from(notes)
TENANT = "acme"
REVISION = """
revision = "a1"
down_revision = None
import sqlalchemy as sa
from alembic import op
def upgrade():
    op.create_table("made", sa.Column("n", sa.Integer))
"""


def _levels() -> dict[str, str]:
    return {found.subject: found.level for found in db.check().findings}


class Walk:
    """What each cell does: a function by the name of its row, each of which asserts what it has done."""

    def __init__(self, folder: Path, context: Any) -> None:
        self.folder = folder
        self.context = context
        self.number = 0

    def cells(self) -> dict[str, Callable[[], object]]:
        one_of: dict[str, Callable[[], object]] = {
            "db.begin": self._writes(db.begin),
            "db.begin(tenant=…)": self._writes(db.begin, tenant=TENANT),
            "db.begin(isolation=…)": self._writes(db.begin, isolation="SERIALIZABLE"),
            "db.read": self._reads(db.read),
            "db.read(tenant=…)": self._reads(db.read, tenant=TENANT),
            "db.read(snapshot=True)": self._reads(db.read, snapshot=True),
            "db.read(fresh=…)": self._reads(db.read, fresh=True),
            "db.fetch": self._fetched,
            "db.fetch(tenant=…)": lambda: self._fetched(tenant=TENANT),
            "db.write": self._written,
            "db.write(tenant=…)": lambda: self._written(tenant=TENANT),
            "db.write(isolation=…)": lambda: self._written(isolation="SERIALIZABLE"),
            "db.session": self._writes(db.session),
            "db.session(tenant=…)": self._writes(db.session, tenant=TENANT),
            "db.session(read_only=True)": self._reads(db.session, read_only=True),
            "db.run": lambda: self._is_written(db.run(self._write)),
            "db.run(tenant=…)": lambda: self._is_written(db.run(self._write, tenant=TENANT)),
            "db.scope": self._scope,
            "db.carry": lambda: self._is_written(db.carry(db.run)(self._write)),
            "db.invocation": self._invocation,
            "db.once": self._once,
            "db.once(tenant=…)": lambda: self._once(tenant=TENANT),
            "db.idempotent": self._idempotent,
            "db.purge_once": self._purge,
            "db.batch": self._batch,
            "db.batch(tenant=…)": lambda: self._batch(tenant=TENANT),
            "db.copy_rows": self._copy,
            "db.copy_rows(tenant=…)": lambda: self._copy(tenant=TENANT),
            "db.copy_rows(binary=True)": lambda: self._copy(binary=True),
            "db.prime": lambda: self._holds(db.prime(text("SELECT 1 AS primed"))["compiled"] >= 1),
            "db.reflect": lambda: self._holds("notes" in db.reflect().tables),
            "db.engine": self._engine,
            "db.configure": lambda: db.configure(process.current().settings),
            "db.status": lambda: self._holds("writer" in db.status()["engines"]),
            "db.check": lambda: self._holds(_levels()["server"] == "ok"),
            "db.dispose": db.dispose,
            "db.verdict": lambda: self._holds(db.verdict(self._duplicate()) is db.Verdict.GIVE_UP),
            "db.sqlstate": lambda: self._holds(db.sqlstate(self._duplicate()) == "23505"),
        }
        return one_of | self._of_aio() | self._of_migrations()

    def _of_aio(self) -> dict[str, Callable[[], object]]:
        async def counted(tx: AsyncConnection, *_: Any) -> int:
            return int((await tx.execute(COUNT)).scalar_one())

        async def entered(block: Any) -> object:
            async with block as conn:
                return await conn.execute(COUNT)

        async def idem() -> object:
            return await aio.idempotent(key="id")(counted)({"id": "later"}, None)

        async def twice() -> object:
            async def nothing() -> int:
                return 1

            return await aio.gather(nothing(), nothing())

        async def gives_engine() -> object:
            return aio.engine()

        made: dict[str, Callable[[], Any]] = {
            "aio.begin": lambda: entered(aio.begin()),
            "aio.read": lambda: entered(aio.read()),
            "aio.fetch": lambda: aio.fetch(COUNT),
            "aio.write": lambda: aio.write(COUNT),
            "aio.session": lambda: entered(aio.session()),
            "aio.run": lambda: aio.run(counted),
            "aio.once": lambda: aio.once("later").run(counted),
            "aio.idempotent": idem,
            "aio.purge_once": aio.purge_once,
            "aio.batch": lambda: aio.batch(self._event(), counted),
            "aio.copy_rows": lambda: aio.copy_rows(notes, [(self._next(), "later")]),
            "aio.reflect": aio.reflect,
            "aio.engine": gives_engine,
            "aio.gather": twice,
        }
        return {name: self._on_loop(make) for name, make in made.items()}

    @staticmethod
    def _on_loop(make: Callable[[], Any]) -> Callable[[], object]:
        async def call() -> object:
            return await make()

        return lambda: event_loop.run(call())

    def _of_migrations(self) -> dict[str, Callable[[], object]]:
        def on_op(run: Callable[[Operations], object]) -> Callable[[], object]:
            return lambda: self._migrated(run)

        role = self._role
        return {
            "migrations.upgrade": self._upgrade,
            "migrations.make_roles": lambda: migrations.make_roles("master"),
            "migrations.audit": self._audit,
            "operations.enable_tenant_rls": on_op(lambda op: operations.enable_tenant_rls(op, "owned")),
            "operations.grant": on_op(lambda op: operations.grant(op, "SELECT", "notes", to=role())),
            "operations.create_once_table": on_op(self._once_table_again),
            "operations.drop_once_table": on_op(operations.drop_once_table),
            "operations.create_prologue_function": on_op(
                lambda op: operations.create_prologue_function(op, used_by=[role()])
            ),
            "operations.drop_prologue_function": on_op(self._prologue_function_and_back),
            "operations.create_constraints_function": on_op(
                lambda op: operations.create_constraints_function(op, used_by=[role()])
            ),
            "powertools.OncePersistenceLayer": self._powertools,
        }

    def _role(self) -> str:
        settings = process.current().settings
        if (url := settings.url) is None and settings.user is not None:
            with db.read() as conn:
                return str(conn.execute(text("SELECT current_user")).scalar_one())
        return str(url.username) if url is not None and url.username else "nobody"

    def _once_table_again(self, op: Operations) -> None:
        operations.drop_once_table(op)
        operations.create_once_table(op, used_by=[self._role()])

    @staticmethod
    def _prologue_function_and_back(op: Operations) -> None:
        if "prologue function" in process.current().settings.engine_kind.can:
            operations.create_prologue_function(op, used_by=[])
        operations.drop_prologue_function(op)

    def _next(self) -> int:
        self.number += 1
        return self.number

    @staticmethod
    def _holds(condition: bool) -> None:
        assert condition

    def _write(self, tx: Any, *_: object) -> int:
        number = self._next()
        tx.execute(insert(notes), {"id": number, "body": "written"})
        return number

    @staticmethod
    def _is_written(number: int) -> None:
        with db.read() as conn:
            assert conn.execute(select(notes.c.body).where(notes.c.id == number)).scalar_one() == "written"

    def _writes(self, block: Callable[..., Any], **asked: Any) -> Callable[[], object]:
        def write() -> None:
            with block(**asked) as tx:
                number = self._write(tx)
            self._is_written(number)
            with contextlib.suppress(KeyError), block(**asked) as tx:
                undone = self._write(tx)
                raise KeyError
            with db.read() as conn:
                assert conn.execute(select(notes).where(notes.c.id == undone)).all() == []

        return write

    def _reads(self, block: Callable[..., Any], **asked: Any) -> Callable[[], object]:
        def read() -> None:
            with pytest.raises(exc.DBAPIError) as refused, block(**asked) as conn:
                conn.execute(COUNT)
                self._write(conn)
            assert db.sqlstate(refused.value) == "25006"
            assert db.verdict(refused.value) is db.Verdict.GIVE_UP
            assert "what writes goes into db.begin()" in "".join(refused.value.__notes__)

        return read

    def _fetched(self, **asked: Any) -> None:
        first, second = db.fetch(COUNT, COUNT, **asked)
        assert first.scalar_one() == second.scalar_one()

    def _written(self, **asked: Any) -> None:
        number, undone = self._next(), self._next()
        made, counted = db.write(insert(notes).values(id=number, body="written"), COUNT, **asked)
        assert (made.rowcount, counted.scalar_one() > 0) == (1, True)
        self._is_written(number)
        with pytest.raises(exc.IntegrityError) as refused:
            db.write(insert(notes).values(id=undone), insert(notes).values(id=number), **asked)
        assert "in statement 2 of 2" in refused.value.__notes__
        with db.read() as conn:
            assert conn.execute(select(notes).where(notes.c.id == undone)).all() == []

    def _scope(self) -> None:
        with db.scope(tenant=TENANT):
            self._is_written(db.run(self._write))

    def _invocation(self) -> None:
        @db.invocation
        def handler(_event: object, _context: object) -> int:
            return db.run(self._write)

        self._is_written(handler({}, self.context))

    def _once(self, **asked: Any) -> None:
        first = db.once("key", payload=1, **asked).run(self._write)
        again = db.once("key", payload=1, **asked)
        assert again.run(self._write) == first
        assert again.replayed
        with pytest.raises(db.KeyReusedError):
            db.once("key", payload=2, **asked).run(self._write)
        with pytest.raises(db.AlreadyDoneError), db.once("key", payload=1, **asked):
            pass

    def _idempotent(self) -> None:
        handler = db.idempotent(key="id")(self._write)
        assert handler({"id": "x"}) == handler({"id": "x"})

    def _purge(self) -> None:
        db.purge_once()
        db.once("short", expires_in_s=1e-3).run(self._write)
        with db.begin() as tx:
            tx.execute(text("SELECT 1"))  # a moment passes
        assert db.purge_once() == 1
        again = db.once("short")
        self._is_written(again.run(self._write))
        assert not again.replayed

    def _event(self, *bodies: str) -> dict[str, Any]:
        arn = "arn:aws:sqs:eu-central-1:1:q"
        return {
            "Records": [
                {"messageId": str(self._next()), "body": body, "eventSource": "aws:sqs", "eventSourceARN": arn}
                for body in bodies or ("good",)
            ]
        }

    def _batch(self, **asked: Any) -> None:
        event = self._event("good", "bad", "worse", "good")
        done = []

        def handle(tx: Connection, record: Any) -> None:
            done.append(self._write(tx))
            if record.body == "bad":
                raise ValueError(record.body)
            if record.body == "worse":
                tx.execute(insert(notes), {"id": done[-1], "body": "twice"})

        answer = db.batch(event, handle, **asked)
        failed = [event["Records"][number]["messageId"] for number in (1, 2)]
        assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == failed
        with db.read() as conn:
            kept = conn.execute(select(notes.c.id).where(notes.c.id.in_(done)).order_by(notes.c.id)).scalars().all()
        assert list(kept) == [done[0], done[3]]

    def _copy(self, **asked: Any) -> None:
        rows = [(self._next(), "written") for _ in range(3)]
        assert db.copy_rows(notes, rows, **asked) == 3
        self._is_written(rows[-1][0])

    @staticmethod
    def _engine() -> None:
        with db.engine().connect() as conn:
            assert conn.execute(text("SELECT 1")).scalar_one() == 1
        assert db.engine("reader") is db.engine()

    def _duplicate(self) -> Exception:
        with pytest.raises(exc.IntegrityError) as refused, db.begin() as tx:
            tx.execute(insert(notes), [{"id": -1}, {"id": -1}])
        return refused.value

    def _migrated(self, run: Callable[[Operations], object]) -> None:
        from alembic.migration import MigrationContext
        from alembic.operations import Operations

        with pytest.raises(_UndoneError), _schema_open() as conn:
            run(Operations(MigrationContext.configure(conn)))
            raise _UndoneError

    def _upgrade(self) -> None:
        (self.folder / "a1.py").write_text(REVISION)
        assert migrations.upgrade(self.folder).after == "a1"
        assert migrations.upgrade(self.folder).before == "a1"
        with db.read() as conn:
            assert conn.execute(text("SELECT count(*) FROM made")).scalar_one() == 0

    @staticmethod
    def _audit() -> None:
        with db.read() as conn:
            assert migrations.audit(conn, roles=[]) is not None

    def _powertools(self) -> None:
        layer = OncePersistenceLayer()

        @idempotent(persistence_store=layer)
        def handler(_event: dict[str, Any], _context: Any) -> dict[str, int]:
            return {"n": self._write(layer.tx)}

        assert handler({"id": "p"}, self.context) == handler({"id": "p"}, self.context)


class _UndoneError(Exception):
    """So that a cell leaves no table behind."""


@pytest.fixture(params=["postgresql", "sqlite in memory", "sqlite in a file", "mariadb", "mysql", "dsql"])
def walk(
    request: pytest.FixtureRequest, tmp_path: Path, lambda_context: MakeLambdaContext, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Walk]:
    match request.param:
        case "postgresql":
            database: Database = request.getfixturevalue("database")
            settings = Settings(url=database.url("owner"))
        case "sqlite in memory":
            settings = Settings(url="sqlite://")
        case "dsql":
            cluster: DsqlStandIn = request.getfixturevalue("dsql")
            settings = Settings(**cluster.settings(), pool_size=2)
        case "mariadb" | "mysql":
            database = request.getfixturevalue("mariadb_database")
            url = make_url(database.url("owner")).set(drivername=request.param)
            settings = Settings(url=url, sslmode="disable", pool_size=2)
        case _:
            settings = Settings(url=f"sqlite:///{tmp_path}/a.db", pool_size=2)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "walk")  # for Powertools
    db.configure(settings)
    yield Walk(tmp_path, lambda_context(remaining_s=60.0))
    db.dispose()
    process.DEFAULT._runtime = None


@contextlib.contextmanager
def _schema_open() -> Iterator[Connection]:
    """A connection for DDL: in a transaction, where that may hold several statements of it."""
    if process.current().settings.engine_kind.commits_each_statement:
        with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            yield conn
    else:
        with db.begin() as tx:
            yield tx


def _lay_ground() -> None:
    """The tables that the calls work on: gone with a database in memory that was disposed of."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    with _schema_open() as tx:
        for statement in ("DROP TABLE IF EXISTS notes", "DROP TABLE IF EXISTS owned", "DROP TABLE IF EXISTS db_once"):
            tx.execute(text(statement))
        tx.execute(text("CREATE TABLE notes (id int PRIMARY KEY, body text)"))
        tx.execute(text("CREATE TABLE owned (id int PRIMARY KEY, tenant_id text)"))
        operations.create_once_table(Operations(MigrationContext.configure(tx)), used_by=[])


@pytest.mark.filterwarnings("ignore::UserWarning:aws_lambda_powertools")
def test_each_call_works_or_is_refused_by_name(walk: Walk) -> None:
    """What the table says of a cell is what happens there."""
    kind = process.current().settings.engine_kind
    cells = walk.cells()
    assert cells.keys() == CALLS.keys()
    _lay_ground()
    wrong = {}
    for name, call in cells.items():
        asked = CALLS[name]
        refusal = asked is not None and kind.lacks.get(asked)
        try:
            call()
        except db.ConfigurationError as error:
            said = name.partition("(")[0].replace("operations.", "").replace("migrations.", "")
            named = "db.aio" if asked == "aio" else "db.run" if name == "db.scope" else said
            if not (refusal and str(error).startswith(named) and f" on {kind.title}: {refusal}" in str(error)):
                wrong[name] = repr(error)
        except Exception as error:  # noqa: BLE001 - all cells are looked at
            wrong[name] = repr(error)
        else:
            if refusal:
                wrong[name] = "not refused"
        if name in {"db.configure", "db.dispose", "operations.drop_once_table"}:  # where DDL cannot be undone
            _lay_ground()
    # It takes the secret of a master, which is another test's.
    wrong_roles = wrong.pop("migrations.make_roles", "")
    assert ("DB_SECRET_ID names none" in wrong_roles) is ("roles" in kind.can)
    assert wrong == {}
