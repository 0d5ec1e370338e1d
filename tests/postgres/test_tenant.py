"""A tenant holds for one transaction, and for no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

import db

from .conftest import Use, backend_pid

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection

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
