"""The statements, in SQLAlchemy Core: the same for `db` and for all that use SQLAlchemy by hand."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, Table, Text, select, text, update

from benchmarks.works import NOTE

_metadata = MetaData()
notes = Table("notes", _metadata, Column("id", Integer, primary_key=True), Column("hits", Integer))
tenant_notes = Table(
    "tenant_notes",
    _metadata,
    Column("tenant_id", Text, primary_key=True),
    Column("id", Integer, primary_key=True),
    Column("hits", Integer),
)

# Built once, as SQLAlchemy's cache of compiled statements would have it in effect; the key travels as a parameter.
READ = select(notes.c.hits).where(notes.c.id == NOTE)
WRITE = update(notes).where(notes.c.id == NOTE).values(hits=notes.c.hits + 1)
# Row-level security adds the tenant.
BOUND_READ = select(tenant_notes.c.hits).where(tenant_notes.c.id == NOTE)
BOUND_WRITE = update(tenant_notes).where(tenant_notes.c.id == NOTE).values(hits=tenant_notes.c.hits + 1)

SET_TENANT = text("SELECT set_config('app.tenant_id', :tenant, true)")
SET_TIMEOUT = text("SELECT set_config('statement_timeout', :timeout, true)")
