import json

import db
import pytest
import shelves
from alembic.migration import MigrationContext
from alembic.operations import Operations
from db.migrations.operations import enable_tenant_rls, grant
from sqlalchemy import make_url


@pytest.fixture
def tables(database):
    db.configure(db.Settings(url=make_url(database.url("owner"))))
    with db.begin() as tx, Operations.context(MigrationContext.configure(tx)) as op:
        shelves.Base.metadata.create_all(tx)
        for table in ("shelves", "books"):
            enable_tenant_rls(op, table)
            grant(op, "SELECT, INSERT", table, to=database.app)
    db.configure(db.Settings(url=make_url(database.url())))
    yield
    db.dispose()


def test_each_tenant_has_shelves_of_its_own(tables, lambda_context):
    def put(tenant, shelf, *books):
        event = {"tenant": tenant, "shelf": shelf, "books": list(books)}
        return json.loads(shelves.handler(event, lambda_context())["body"])

    assert put("acme", "low", "Emma") == {"low": ["Emma"]}
    assert put("globex", "high", "Ulysses") == {"high": ["Ulysses"]}
    assert put("acme", "top") == {"low": ["Emma"], "top": []}
