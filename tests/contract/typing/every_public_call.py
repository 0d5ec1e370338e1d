"""A user's module that makes every public call. Type checkers read it, in their strictest mode; nobody runs it.

``assert_type`` says what the caller is given: a checker that took it for Any would say so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, assert_type

from alembic import op
from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
from aws_lambda_powertools.utilities.idempotency import idempotent
from sqlalchemy import (
    URL,
    Connection,
    CursorResult,
    Engine,
    Integer,
    MetaData,
    Result,
    Table,
    Text,
    column,
    insert,
    make_url,
    select,
    table,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

import db
import db.asgi
import db.errors
import db.settings
from db import aio, migrations
from db.environment import prometheus
from db.migrations import operations
from db.powertools import OncePersistenceLayer
from db.work.prime import Primed

if TYPE_CHECKING:
    from alembic.operations import Operations
    from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord
    from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import KinesisStreamRecord
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

notes = table("notes", column("id", Integer), column("body", Text))
ids = select(column("id", Integer))
bodies = select(column("id", Integer), column("body", Text))
stored = insert(notes).values(id=1).returning(column("id", Integer))
Event = dict[str, str]
Answer = dict[str, int]


# Functions of the user's, and what becomes of them.


def transfer(tx: Connection, account: int, amount: float = 1.0, *, note: str = "") -> bytes:
    tx.execute(text("SELECT 1"), {"account": account, "amount": amount, "note": note})
    return b""


def count(tx: Connection) -> int:
    return tx.execute(ids).scalar_one()


async def transfer_later(tx: AsyncConnection, account: int, amount: float = 1.0, *, note: str = "") -> bytes:
    await tx.execute(text("SELECT 1"), {"account": account, "amount": amount, "note": note})
    return b""


async def count_later(tx: AsyncConnection) -> int:
    return (await tx.execute(ids)).scalar_one()


def runs() -> None:
    assert_type(db.run(count), int)
    assert_type(db.run(transfer, 1), bytes)
    assert_type(db.run(transfer, 1, 2.0, note="n"), bytes)
    assert_type(db.run(transfer, account=1, note="n"), bytes)
    assert_type(db.run(count, tenant="acme"), int)
    assert_type(db.run(transfer, 1, 2.0, tenant="acme", isolation="SERIALIZABLE"), bytes)
    assert_type(db.run(transfer, account=1, note="n", tenant="acme"), bytes)
    assert_type(db.run(transfer, account=1, isolation="REPEATABLE READ"), bytes)
    assert_type(db.run(lambda tx: tx.closed), bool)
    assert_type(db.run(lambda tx: tx.closed, tenant="acme"), bool)


async def runs_later() -> None:
    assert_type(await aio.run(count_later), int)
    assert_type(await aio.run(transfer_later, 1), bytes)
    assert_type(await aio.run(transfer_later, 1, 2.0, note="n"), bytes)
    assert_type(await aio.run(transfer_later, account=1, note="n"), bytes)
    assert_type(await aio.run(count_later, tenant="acme"), int)
    assert_type(await aio.run(transfer_later, 1, 2.0, tenant="acme", isolation="SERIALIZABLE"), bytes)
    assert_type(await aio.run(transfer_later, account=1, note="n", tenant="acme"), bytes)
    assert_type(await aio.run(transfer_later, account=1, isolation="REPEATABLE READ"), bytes)


def once_for_a_key(tx: Connection) -> None:
    work = db.once("key", tenant="acme", payload={"a": 1}, expires_in_s=60.0, isolation="SERIALIZABLE")
    assert_type(work.run(transfer, 1, 2.0, note="n"), bytes)
    assert_type(work.run(count), int)
    with db.once("key", tx=tx) as own:
        assert_type(own, Connection)
    assert_type(work.key, str)
    assert_type(work.replayed, bool)
    work.result = {"charged": 1}
    assert_type(db.purge_once(limit=100), int)


async def once_for_a_key_later(tx: AsyncConnection) -> None:
    work = aio.once("key", tenant="acme", payload={"a": 1}, expires_in_s=60.0, isolation="SERIALIZABLE")
    assert_type(await work.run(transfer_later, 1, 2.0, note="n"), bytes)
    assert_type(await work.run(count_later), int)
    async with aio.once("key", tx=tx) as own:
        assert_type(own, AsyncConnection)
    assert_type(work.key, str)
    assert_type(work.replayed, bool)
    work.result = {"charged": 1}
    assert_type(await aio.purge_once(limit=100), int)


# Handlers.


@db.invocation
def handler(event: Event, context: LambdaContext) -> Answer:
    return {event["body"]: context.memory_limit_in_mb}


@db.invocation
async def async_handler(event: Event, context: LambdaContext) -> Answer:
    return {event["body"]: context.memory_limit_in_mb}


@db.invocation()
def handler_with_parentheses(event: Event, context: LambdaContext) -> Answer:
    return {event["body"]: context.memory_limit_in_mb}


class Handlers:
    @db.invocation
    def method(self, event: Event, context: LambdaContext) -> Answer:
        return {event["body"]: context.memory_limit_in_mb}


@db.invocation
@db.idempotent(key="id", payload="body", tenant="tenant", expires_in_s=60.0, name="charge")
def charge(tx: Connection, event: Event, context: LambdaContext) -> Answer:
    return {event["body"]: count(tx) + context.memory_limit_in_mb}


@db.invocation
@aio.idempotent(key="id", payload="body", tenant="tenant", expires_in_s=60.0, name="charge")
async def charge_later(tx: AsyncConnection, event: Event, context: LambdaContext) -> Answer:
    return {event["body"]: await count_later(tx) + context.memory_limit_in_mb}


@aio.idempotent(key="id")
async def remind_later(tx: AsyncConnection, event: Event, _context: object) -> Answer:
    return {event["body"]: await count_later(tx)}


async def invoked(event: Event, context: LambdaContext) -> None:
    assert_type(handler(event, context), Answer)
    assert_type(handler(event), Answer)
    assert_type(async_handler(event, context), Answer)
    assert_type(handler_with_parentheses(event), Answer)
    assert_type(Handlers().method(event, context), Answer)
    assert_type(charge(event, context), Answer)
    assert_type(charge_later(event=event, context=context), Answer)
    assert_type(await remind_later(event), Answer)


layer = OncePersistenceLayer()
audit_layer = OncePersistenceLayer(database=db.Database.from_env(prefix="AUDIT_DB_"))


@idempotent(persistence_store=layer)
def powertools_handler(event: Event, _context: LambdaContext) -> Answer:
    assert_type(layer.tx, Connection)
    return {event["body"]: 1}


# Batches.


class Reading:
    """A model as pydantic makes them."""

    value: int
    tenant: str

    @classmethod
    def model_validate(cls, obj: Any, *, strict: bool | None = None) -> Self:
        raise NotImplementedError


def store_message(tx: Connection, record: SQSRecord) -> None:
    tx.execute(text("SELECT 1"), {"body": record.body})


def store_change(tx: Connection, record: DynamoDBRecord) -> None:
    tx.execute(text("SELECT 1"), {"name": record.event_name})


def store_reading(tx: Connection, reading: Reading) -> None:
    tx.execute(text("SELECT 1"), {"value": reading.value})


async def store_message_later(tx: AsyncConnection, record: KinesisStreamRecord) -> None:
    await tx.execute(text("SELECT 1"), {"id": record.event_id})


async def store_reading_later(tx: AsyncConnection, reading: Reading) -> None:
    await tx.execute(text("SELECT 1"), {"value": reading.value})


def tenant_of(record: SQSRecord) -> str:
    return record.body


def batches(event: dict[str, Any]) -> None:
    assert_type(db.batch(event, store_message, tenant=tenant_of, isolation="SERIALIZABLE"), PartialItemFailureResponse)
    db.batch(event, store_change, tenant="acme", skip_group_on_error=False, raise_on_entire_batch_failure=True)
    db.batch(event, store_reading, model=Reading, tenant=lambda reading: reading.tenant)
    db.batch(event, lambda tx, record: tx.execute(ids, record.raw_event))


async def batches_later(event: dict[str, Any]) -> None:
    assert_type(await aio.batch(event, store_message_later, tenant="acme"), PartialItemFailureResponse)
    await aio.batch(event, store_message_later, skip_group_on_error=False, raise_on_entire_batch_failure=True)
    await aio.batch(event, store_reading_later, model=Reading, tenant=lambda reading: reading.tenant)


# Units of work.


class OwnSession(Session):
    pass


class OwnAsyncSession(AsyncSession):
    pass


def units() -> None:
    with db.scope(tenant="acme"), db.begin(tenant="acme", isolation="SERIALIZABLE") as tx:
        assert_type(tx, Connection)
    assert_type(db.carry(len)("abc"), int)
    with db.read(tenant="acme", snapshot=True, fresh=True) as conn:
        assert_type(conn, Connection)
    with db.session(tenant="acme", isolation="SERIALIZABLE") as orm:
        assert_type(orm, Session)
    with db.begin() as given, db.session(tx=given, class_=OwnSession) as own:
        assert_type(own, OwnSession)
    with db.session(read_only=True) as reading:
        assert_type(reading, Session)
    assert_type(db.fetch(ids, ids, tenant="acme", fresh=True), list[Result[int]])
    (found,) = db.fetch(bodies)
    assert_type(found, Result[int, str])
    for number, body in found:
        assert_type((number, body), tuple[int, str])
    assert_type(db.fetch(text("SELECT 1"), ids), list[Result[*tuple[Any, ...]]])
    assert_type(db.write(stored, stored, tenant="acme", isolation="SERIALIZABLE"), list[CursorResult[int]])
    (written,) = db.write(text("DELETE FROM notes"))
    assert_type(written, CursorResult[*tuple[Any, ...]])
    assert_type(written.rowcount, int)
    rows: list[dict[str, object]] = [{"id": 1, "body": "b"}]
    assert_type(db.copy_rows("notes", rows, columns=["id"], tenant="acme", progress=print, chunk_rows=1000), int)
    assert_type(db.copy_rows("notes", rows, binary=True), int)
    assert_type(db.prime(text("SELECT 1"), (text("SELECT :id"), {"id": 1}), (bodies, rows)), Primed)
    assert_type(db.reflect(schema="shop", only=["notes"], views=True, snapshot=Path("schema")), MetaData)


def units_in_one(tx: Connection, target: Table) -> None:
    assert_type(db.copy_rows(target, [(1, "b")], tx=tx), int)


async def units_later() -> None:
    async with aio.begin(tenant="acme", isolation="SERIALIZABLE") as tx:
        assert_type(tx, AsyncConnection)
    async with aio.read(tenant="acme", snapshot=True, fresh=True) as conn:
        assert_type(conn, AsyncConnection)
    async with aio.session(tenant="acme", isolation="SERIALIZABLE") as orm:
        assert_type(orm, AsyncSession)
    async with aio.begin() as given, aio.session(tx=given, class_=OwnAsyncSession) as own:
        assert_type(own, OwnAsyncSession)
    assert_type(await aio.fetch(ids, ids, tenant="acme", fresh=True), list[Result[int]])
    assert_type(await aio.fetch(bodies), list[Result[int, str]])
    assert_type(await aio.fetch(text("SELECT 1")), list[Result[*tuple[Any, ...]]])
    assert_type(await aio.write(stored, tenant="acme", isolation="SERIALIZABLE"), list[CursorResult[int]])
    assert_type(await aio.write(text("SELECT 1")), list[CursorResult[*tuple[Any, ...]]])
    assert_type(await aio.copy_rows("notes", [(1, "b")], columns=["id"], tenant="acme", progress=print), int)
    assert_type(await aio.reflect(schema="shop", only=["notes"], views=True, snapshot="schema"), MetaData)
    assert_type(await aio.gather(aio.run(count_later), aio.run(count_later), limit=2), list[int])


async def units_in_one_later(tx: AsyncConnection, target: Table) -> None:
    assert_type(await aio.copy_rows(target, [(1, "b")], tx=tx), int)


# The process.


def process() -> None:
    settings = db.Settings(url=make_url("sqlite://"), pool="null", proxy="none", statement_timeout_s=1.0)
    db.configure(settings)
    db.configure()
    assert_type(db.Settings(url="sqlite://").url, URL | None)
    assert_type(db.Settings.from_env({"DB_URL": "sqlite://"}), db.Settings)
    assert_type(settings.pool_size, int)
    assert_type(settings.engine_kind.title, str)
    assert_type(settings.source, db.settings.Auth)
    assert_type([field.name for field in db.settings.fields()], list[str])
    assert_type(db.engine(), Engine)
    assert_type(db.engine("reader"), Engine)
    assert_type(aio.engine("reader"), AsyncEngine)
    status = db.status()
    assert_type(status["cold"], bool)
    assert_type(status["request_id"], str | None)
    assert_type(status["engines"]["writer"]["checked_out"], int)
    assert_type(status["totals"]["connects"], int | float)
    assert_type(prometheus.text(), str)
    assert_type(prometheus.CONTENT_TYPE, str)
    assert_type(prometheus.Collector(), prometheus.Collector)
    report = db.check(allowed={"notes": "read across tenants, for the report"})
    assert_type(report.status, int)
    assert_type(report.findings[0].remedy, str | None)
    assert_type(db.check(audit).as_dict(), dict[str, Any])
    db.dispose()
    assert_type(db.__version__, str)


# A database beside the default one.

audit = db.Database.from_env(prefix="AUDIT_DB_")
other = db.Database(db.Settings(url="sqlite://"), name="other")


@db.invocation
@audit.idempotent(key="id", payload="body", tenant="tenant", expires_in_s=60.0, name="charge")
def audited(tx: Connection, event: Event, context: LambdaContext) -> Answer:
    return {event["body"]: count(tx) + context.memory_limit_in_mb}


@db.invocation
@audit.aio.idempotent(key="id")
async def audited_later(tx: AsyncConnection, event: Event, context: LambdaContext) -> Answer:
    return {event["body"]: await count_later(tx) + context.memory_limit_in_mb}


def on_another(event: dict[str, Any], target: Table) -> None:
    assert_type(audited({}), Answer)
    assert_type(audited_later({}), Answer)
    assert_type(audit.name, str)
    with audit.begin(tenant="acme", isolation="SERIALIZABLE") as tx, audit.once("key", tx=tx) as own:
        assert_type(own, Connection)
    with audit.read(tenant="acme", snapshot=True, fresh=True) as conn:
        assert_type(conn, Connection)
    with audit.session(tenant="acme") as orm, audit.session(class_=OwnSession) as theirs:
        assert_type((orm, theirs), tuple[Session, OwnSession])
    assert_type(audit.run(transfer, 1, 2.0, tenant="acme"), bytes)
    assert_type(audit.run(transfer, 1, note="n"), bytes)
    assert_type(audit.once("key").run(count), int)
    assert_type(audit.fetch(ids, ids, fresh=True), list[Result[int]])
    assert_type(audit.write(stored, tenant="acme"), list[CursorResult[int]])
    assert_type(audit.batch(event, store_message, tenant=tenant_of), PartialItemFailureResponse)
    audit.batch(event, store_reading, model=Reading, tenant=lambda reading: reading.tenant)
    assert_type(audit.copy_rows(target, [(1, "b")], tenant="acme"), int)
    assert_type(audit.reflect(only=["notes"]), MetaData)
    assert_type(audit.prime(text("SELECT 1")), Primed)
    assert_type(audit.purge_once(limit=100), int)
    assert_type(audit.engine("reader"), Engine)
    audit.configure(db.Settings(url="sqlite://"), on_engine=print)
    assert_type(audit.status()["totals"]["connects"], int | float)
    audit.dispose()
    assert_type(migrations.upgrade("versions", database=audit), migrations.Upgraded)


async def on_another_later(event: dict[str, Any], target: Table) -> None:
    async with audit.aio.begin(tenant="acme") as tx, audit.aio.once("key", tx=tx) as own:
        assert_type(own, AsyncConnection)
    async with audit.aio.read(tenant="acme", snapshot=True) as conn:
        assert_type(conn, AsyncConnection)
    async with audit.aio.session(tenant="acme") as orm, audit.aio.session(class_=OwnAsyncSession) as theirs:
        assert_type((orm, theirs), tuple[AsyncSession, OwnAsyncSession])
    assert_type(await audit.aio.run(transfer_later, 1, 2.0, tenant="acme"), bytes)
    assert_type(await audit.aio.once("key").run(count_later), int)
    assert_type(await audit.aio.fetch(bodies), list[Result[int, str]])
    assert_type(await audit.aio.write(stored), list[CursorResult[int]])
    assert_type(await audit.aio.batch(event, store_message_later), PartialItemFailureResponse)
    assert_type(await audit.aio.copy_rows(target, [(1, "b")]), int)
    assert_type(await audit.aio.reflect(), MetaData)
    assert_type(await audit.aio.purge_once(), int)
    assert_type(await audit.aio.gather(audit.aio.run(count_later), limit=2), list[int])
    assert_type(audit.aio.engine(), AsyncEngine)


def errors() -> None:
    try:
        db.run(count)
    except db.ConfigurationError as error:
        assert_type(error.problems, tuple[str, ...])
    except db.CredentialsError as error:
        assert_type(error.transient, bool)
    except (db.InvalidKeyError, db.KeyReusedError, db.TenantError) as error:
        assert_type(db.sqlstate(error), str | None)
    except (db.CapacityError, db.DeadlineError, db.OutcomeUnknownError) as error:
        assert_type(db.verdict(error), db.Verdict)
        assert_type(db.verdict(error).transient, bool)
    except db.AlreadyDoneError as error:
        assert_type(str(error.result), str)  # what JSON holds
    except db.DbError as error:
        assert_type(error.database, str | None)
        assert_type(db.errors.connect_verdict(error), db.Verdict)


# What an ASGI application takes.


async def of_asgi(scope: dict[str, Any], app: Callable[[Any, Any, Any], Awaitable[None]]) -> Any:
    await db.asgi.Middleware(app, tenant=lambda scope: str(scope["path"]), request_timeout_s=3)(scope, None, None)
    assert_type(db.asgi.request_context(scope), Mapping[str, Any])
    assert_type(db.asgi.transaction(), AsyncGenerator[AsyncConnection, None])
    assert_type(db.asgi.reading(), AsyncGenerator[AsyncConnection, None])
    assert_type(db.asgi.plain_transaction(), AsyncGenerator[Connection, None])
    assert_type(db.asgi.plain_reading(), AsyncGenerator[Connection, None])
    assert_type(
        db.asgi.dependency(lambda: db.begin(isolation="SERIALIZABLE")), Callable[[], AsyncGenerator[Connection, None]]
    )
    assert_type(db.asgi.dependency(aio.read), Callable[[], AsyncGenerator[AsyncConnection, None]])
    said: db.asgi.Answer = db.asgi.answer_to(ValueError())
    assert_type((said.status, said.reason, said.retry_after_s), tuple[int, str, int | None])
    async with db.asgi.lifespan(app):
        await db.asgi.problem(None, ValueError())
    return db.asgi.lambda_handler(app, lifespan="off")


# Migrations.


def upgrade() -> None:
    operations.enable_tenant_rls(op, "notes", column="tenant_id")
    operations.grant(op, "SELECT, INSERT", "notes", to="app")
    operations.create_once_table(op, used_by=["app"], purged_by="report")
    operations.create_prologue_function(op, used_by=["app"])
    operations.create_constraints_function(op, used_by=["app"])


def downgrade(own: Operations) -> None:
    operations.drop_prologue_function(op)
    operations.drop_once_table(op)
    operations.drop_once_table(own)
    assert_type(operations.is_features("notes", "table", {}), bool)
