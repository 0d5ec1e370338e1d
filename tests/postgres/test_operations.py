"""What migrations are given for tenants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest
from sqlalchemy import exc, text

import db
from db.migrations.operations import enable_tenant_rls, grant

from .conftest import Use
from .fix_once import migrate

if TYPE_CHECKING:
    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

TABLE = 'CREATE SCHEMA "Odd One"; CREATE TABLE "Odd One"."100%" ("Tenant" text, n int)'


@pytest.fixture
def odd(use: Use, database: Database, postgres: Postgres) -> None:
    """A table whose names have to be quoted, migrated as the owner."""
    use(role="owner")
    with db.begin() as tx:
        for statement in TABLE.split("; "):
            tx.execute(text(statement))
        tx.execute(text(f'GRANT USAGE ON SCHEMA "Odd One" TO {database.app}'))
    migrate(lambda op: enable_tenant_rls(op, "Odd One.100%", column="Tenant"))
    migrate(lambda op: grant(op, "SELECT, INSERT", "Odd One.100%", to=database.app))


@pytest.mark.parametrize("role", ["owner", "app"])
@pytest.mark.usefixtures("odd")
def test_a_tenants_rows_are_its_own(role: Literal["owner", "app"], use: Use) -> None:
    """For the owner as well; without a tenant there is nothing to see, and nothing can be written."""
    use(role=role)
    insert = text('INSERT INTO "Odd One"."100%" VALUES (:tenant, 1)')
    for tenant in ("acme", "globex"):
        with db.begin(tenant=tenant) as tx:
            tx.execute(insert, {"tenant": tenant})
    select = text('SELECT "Tenant" FROM "Odd One"."100%"')
    with db.read(tenant="acme") as conn:
        assert conn.execute(select).scalars().all() == ["acme"]
    with db.read() as conn:
        assert conn.execute(select).scalars().all() == []
    for bound, named in ((None, None), (None, ""), (None, "acme"), ("acme", "globex")):
        with pytest.raises(exc.ProgrammingError, match="row-level security"), db.begin(tenant=bound) as tx:
            tx.execute(insert, {"tenant": named})


@pytest.mark.usefixtures("odd")
def test_the_application_is_granted_what_is_said(use: Use) -> None:
    """And no more."""
    use()
    with pytest.raises(exc.ProgrammingError, match="permission denied"), db.begin(tenant="acme") as tx:
        tx.execute(text('DELETE FROM "Odd One"."100%"'))


@pytest.mark.parametrize(
    ("column", "tenants"),
    [
        ("uuid", ["5b0f62a1-0000-4000-8000-000000000001", "5b0f62a1-0000-4000-8000-000000000002"]),
        ("bigint", ["1", "2"]),
    ],
)
def test_a_column_may_be_of_another_type(column: str, tenants: list[str], use: Use) -> None:
    """On a fresh connection and on one that has had a tenant: without one there is nothing to see."""
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text(f"CREATE TABLE typed (tenant_id {column} DEFAULT current_setting('app.tenant_id')::{column})"))
    migrate(lambda op: enable_tenant_rls(op, "typed"))
    db.dispose()
    for tenant in (None, *tenants, None):
        with db.read(tenant=tenant) as conn:
            assert conn.execute(text("SELECT count(*) FROM typed")).scalar_one() == 0
    for tenant in tenants:
        with db.begin(tenant=tenant) as tx:
            tx.execute(text("INSERT INTO typed DEFAULT VALUES"))
            assert tx.execute(text("SELECT tenant_id::text FROM typed")).scalars().all() == [tenant]
