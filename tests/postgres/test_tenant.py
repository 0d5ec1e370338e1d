"""A tenant holds for one transaction, and for no other."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

import db
from db import aio
from db.environment import event_loop

from .conftest import Use, backend_pid

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy import Connection

    from devkit.plugin import MakeLambdaContext

TENANT = text("SELECT nullif(current_setting('app.tenant_id', true), '')")


def tenant_of(conn: Connection) -> str | None:
    value: str | None = conn.execute(TENANT).scalar_one()
    return value


@pytest.mark.parametrize("pool", ["queue", "null"])
def test_the_tenant_is_set_for_the_transaction(pool: str, use: Use) -> None:
    """In each kind of unit of work, in each pool."""
    use(pool=pool)
    with db.begin(tenant="acme") as tx:
        assert tenant_of(tx) == "acme"
    with db.read(tenant="acme") as conn:
        assert tenant_of(conn) == "acme"
    with db.session(tenant="acme") as orm:
        assert tenant_of(orm.connection()) == "acme"
    assert db.run(tenant_of, tenant="acme") == "acme"


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_next_transaction_of_the_same_backend_has_none(end: str, use: Use) -> None:
    """Whichever way the first one ended."""
    use()
    pid = backend_pid()
    try:
        with db.begin(tenant="acme") as tx:
            assert tenant_of(tx) == "acme"
            if end == "rollback":
                raise LookupError
    except LookupError:
        pass
    with db.begin() as tx:
        assert tenant_of(tx) is None
    assert backend_pid() == pid


def test_a_tenant_full_of_sql_is_a_value(use: Use) -> None:
    """Quotes and all."""
    use()
    nasty = "o'brien'); SELECT pg_sleep(60); -- \" $$ \\"
    with db.begin(tenant=nasty) as tx:
        assert tenant_of(tx) == nasty


def test_a_bound_tenant_reaches_every_unit_in_the_block(use: Use) -> None:
    """``db.scope`` binds once for the invocation."""
    use(tenant_required=True)
    with db.scope(tenant="acme"), db.read() as conn:
        assert tenant_of(conn) == "acme"


def test_a_tenant_does_not_outlive_its_invocation(use: Use) -> None:
    """Not even where generators end their blocks in another order, or not at all."""
    use(pool="null", tenant_required=True)
    kept = []

    def seen_by(tenant: str) -> Generator[str]:
        with db.scope(tenant=tenant), db.read() as conn:
            yield from conn.execute(TENANT).scalars()

    @db.invocation
    def first(_event: object, _context: object) -> list[tuple[str, str]]:
        kept.append(seen_by("left open"))
        next(kept[0])
        return list(zip(seen_by("acme"), seen_by("globex"), strict=True))

    @db.invocation
    def second(_event: object, _context: object) -> None:
        with db.read():
            pass

    assert first({}, None) == [("acme", "globex")]
    with pytest.raises(db.TenantError):
        second({}, None)
    kept[0].close()


def test_a_required_tenant_that_is_missing_opens_no_connection(use: Use) -> None:
    """Fails closed, before anything is sent."""
    use(tenant_required=True)
    with pytest.raises(db.TenantError), db.begin():
        pass
    with pytest.raises(db.TenantError), db.read():
        pass
    assert db.status()["totals"]["connects"] == 0


def test_a_task_keeps_the_tenant_of_the_scope_that_started_it(use: Use) -> None:
    """Whatever has ended meanwhile."""
    use(tenant_required=True)

    async def tenant() -> str | None:
        async with aio.read() as conn:
            return (await conn.execute(TENANT)).scalar_one()  # type: ignore[no-any-return]

    async def scenario() -> str | None:
        with db.scope(tenant="outer"):
            with db.scope(tenant="inner"):
                task = asyncio.create_task(tenant())
            return await task

    assert event_loop.run(scenario()) == "inner"


def test_the_consumer_of_a_generator_is_its_own_tenant(use: Use) -> None:
    """The generator has its own while it runs; a context manager has it for the block around which it stands."""
    use(tenant_required=True)

    def seen() -> str | None:
        with db.read() as conn:
            return tenant_of(conn)

    def generator() -> Generator[str | None]:
        with db.scope(tenant="generator"):
            yield seen()
            yield seen()

    @contextlib.contextmanager
    def manager() -> Iterator[None]:
        with db.scope(tenant="manager"):
            yield

    with db.scope(tenant="caller"):
        assert [(inside, seen()) for inside in generator()] == [("generator", "caller")] * 2
        left_open = generator()
        next(left_open)
        assert seen() == "caller"
        with manager():
            assert seen() == "manager"
        left_open.close()
        assert seen() == "caller"
    with pytest.raises(db.TenantError):
        seen()


def test_a_thread_is_carried_along_or_refused(use: Use, lambda_context: MakeLambdaContext) -> None:
    """It knows neither tenant nor invocation, and would read and write as nobody."""
    use(pool_size=2)

    def seen() -> str | None:
        with db.read() as conn:
            return tenant_of(conn)

    @db.invocation
    def handler(_event: Any, _context: Any) -> list[str | None]:
        with ThreadPoolExecutor(2) as threads:
            assert threads.submit(seen).result() is None  # no tenant is bound yet
            with db.scope(tenant="acme"):
                carried = [threads.submit(db.carry(seen)) for _ in range(2)]
                with pytest.raises(db.TenantError, match=r"db\.carry"):
                    threads.submit(seen).result()
            return [future.result() for future in carried]

    assert handler({}, lambda_context()) == ["acme", "acme"]


def test_a_coroutine_function_is_carried_as_well(use: Use) -> None:
    """Onto a loop that another thread runs, whose tasks begin without a tenant."""
    use(tenant_required=True, async_connections=1)

    async def seen() -> str:
        async with aio.begin() as conn:
            return str(await conn.scalar(TENANT))

    async def scenario(carried: Any) -> list[str]:
        with pytest.raises(db.TenantError):
            await seen()
        return [await carried(), await asyncio.create_task(carried())]

    with db.scope(tenant="acme"):
        carried = db.carry(seen)
    assert event_loop.run(scenario(carried)) == ["acme", "acme"]
    db.dispose()
    event_loop.close()


def test_no_tenant_is_said_as_well(use: Use) -> None:
    """So what a statement set for the whole session does not reach the next unit."""
    use()
    with db.engine().begin() as conn:
        conn.execute(text("SELECT set_config('app.tenant_id', 'left', false)"))
    for unit in (db.begin, db.read):
        with unit() as conn:
            assert conn.execute(text("SELECT current_setting('app.tenant_id')")).scalar_one() == ""
