"""A user's mistakes, each of which a type checker finds: an ignore that nothing needs is an error for both."""

# ruff: noqa: PGH003 - the two have names of their own for one mistake

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import db
from db import aio
from db.migrations import operations

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection


def transfer(tx: Connection, account: int, *, note: str = "") -> bytes:
    raise NotImplementedError


async def transfer_later(tx: AsyncConnection, account: int, *, note: str = "") -> bytes:
    raise NotImplementedError


def runs() -> None:
    db.run(transfer)  # type: ignore
    db.run(transfer, "1")  # type: ignore
    db.run(transfer, 1, note=2)  # type: ignore
    db.run(transfer, 1, nota="n")  # type: ignore
    db.run(transfer, "1", tenant="acme")  # type: ignore
    db.run(transfer, 1, 2, tenant="acme")  # type: ignore
    db.run(transfer, 1, tenant=2)  # type: ignore
    db.run(transfer, 1, isolation="READ UNCOMMITTED")  # type: ignore
    db.run(transfer_later, 1).decode()  # type: ignore
    db.once("key").run(transfer, "1")  # type: ignore
    db.once("key").run(transfer, 1, tenant="acme")  # type: ignore


async def runs_later() -> None:
    await aio.run(transfer_later)  # type: ignore
    await aio.run(transfer_later, "1")  # type: ignore
    await aio.run(transfer_later, 1, note=2)  # type: ignore
    await aio.run(transfer_later, "1", tenant="acme")  # type: ignore
    await aio.run(transfer, 1)  # type: ignore
    await aio.once("key").run(transfer_later, "1")  # type: ignore
    await aio.once("key").run(transfer, 1)  # type: ignore


@db.invocation
def handler(event: dict[str, str], context: object) -> int:
    raise NotImplementedError


@db.idempotent(key="id")
def charge(tx: Connection, event: dict[str, str], context: object) -> int:
    raise NotImplementedError


@db.idempotent(key="id")  # type: ignore
def without_a_transaction(event: dict[str, str], context: object) -> int:
    raise NotImplementedError


def handlers() -> None:
    handler([])  # type: ignore
    charge([])  # type: ignore
    db.invocation(lambda event: event)  # type: ignore


def store(tx: Connection, record: SQSRecord) -> None:
    raise NotImplementedError


def store_text(tx: Connection, record: str) -> None:
    raise NotImplementedError


def of_text(record: str) -> str:
    raise NotImplementedError


def batches(event: dict[str, Any]) -> None:
    db.batch(event, store_text)  # type: ignore
    db.batch(event, store, tenant=of_text)  # type: ignore
    db.batch(event, store, model=str)  # type: ignore


def the_rest() -> None:
    db.status()["pools"]  # type: ignore
    db.engine("replica")  # type: ignore
    db.Settings(pool="many")  # type: ignore
    operations.grant("ALTER", "SELECT", "notes", to="app")  # type: ignore
