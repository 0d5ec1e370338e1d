"""The fixture ``plans``, used as a user's test uses it: what it sees, what it finds, and what it does not let pass."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest
from sqlalchemy import Engine, create_engine, exc, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

import db
from db import aio
from db.environment import event_loop
from db.telemetry.fingerprint import fingerprint
from devkit.query_plans.placeholders import numbered
from devkit.query_plans.plans import PlansError, looking_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from devkit.plugin import Database
    from devkit.query_plans.plans import Plans
    from devkit.query_plans.rules import Finding
    from devkit.servers.postgres import Postgres

SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE notes (
    tenant_id text, id int, body text, author int, code bigint, sent bool NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX ON notes (code);
CREATE INDEX unsent ON notes (tenant_id) WHERE NOT sent;
CREATE TABLE replies (
    id int PRIMARY KEY, customer int CONSTRAINT replies_customer REFERENCES customers, body text
);
CREATE TABLE secured (LIKE notes);
CREATE INDEX ON secured (author);
CREATE UNIQUE INDEX ON secured (code);
CREATE INDEX ON secured (tenant_id, body);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON secured USING (tenant_id = current_setting('app.tenant_id'));
CREATE TABLE as_text (tenant uuid, id int, PRIMARY KEY (tenant, id));
ALTER TABLE as_text ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON as_text USING (tenant::text = current_setting('app.tenant_id'));
"""


NO_INDEX = "no index serves it"
ALL_OF_AN_INDEX = "an index is read from one end to the other"
WHOLE = {
    "SELECT * FROM notes WHERE body = 'a'": NO_INDEX,
    "SELECT sent FROM notes WHERE id = 1": ALL_OF_AN_INDEX,
    "SELECT tenant_id FROM notes ORDER BY tenant_id": ALL_OF_AN_INDEX,
    "SELECT * FROM notes WHERE author = 1 ORDER BY code LIMIT 9": ALL_OF_AN_INDEX,
    "UPDATE notes SET sent = true WHERE author = 1": NO_INDEX,
    "SELECT * FROM customers c JOIN notes n ON n.author = c.id WHERE c.id = 1": NO_INDEX,
}
SERVED = (
    "SELECT author FROM secured WHERE author = 1",
    "SELECT body FROM secured",
    "SELECT body FROM secured WHERE code = 1",
    "SELECT body FROM notes WHERE NOT sent",
    "SELECT body FROM notes ORDER BY code LIMIT 9",
    "SELECT * FROM notes n JOIN customers c ON n.author = c.id WHERE n.code = 1",
    "SELECT * FROM notes WHERE (tenant_id = 'acme' AND id = 1) OR code = 2",
    "SELECT max(code) FROM notes",
    "WITH new AS (SELECT 2 AS id) SELECT c.name FROM new JOIN customers c USING (id)",
)


@pytest.fixture
def engine(database: Database, postgres: Postgres) -> Iterator[Engine]:
    """A plain engine of the role app."""
    postgres.execute(SCHEMA, database=database.name)
    granted = f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {database.app}, {database.owner}"
    postgres.execute(granted, database=database.name)
    made = create_engine(database.url())
    yield made
    made.dispose()


@pytest.fixture
def conn(engine: Engine, plans: Plans) -> Iterator[Connection]:
    """A connection whose statements ``plans`` sees. Its own test has to look at them."""
    with engine.connect() as opened:
        yield opened


def found(plans: Plans) -> list[Finding]:
    """What a look at the statements so far says, which is something."""
    with pytest.raises(PlansError) as caught:
        plans.check()
    return list(caught.value.findings)


def test_it_sees_the_statements_of_every_engine(engine: Engine, database: Database, plans: Plans) -> None:
    """Plain ones and those of ``db``, sync and not, on psycopg and on asyncpg: each as the role that it enters as."""

    def statement(number: int) -> Any:
        return text(f"SELECT id AS from_{number} FROM customers WHERE id = :id")

    async def plain() -> None:
        other = create_async_engine(make_url(database.url("owner")).set(drivername="postgresql+asyncpg"))
        async with other.connect() as conn:
            await conn.execute(statement(1), {"id": 1})
        await other.dispose()

    async def served(number: int) -> None:
        async with aio.read(tenant="acme") as conn:
            await conn.execute(statement(number), {"id": 1})

    with engine.connect() as conn:
        conn.execute(statement(0), {"id": 1})
    asyncio.run(plain())
    drivers: list[tuple[int, Literal["psycopg", "asyncpg"]]] = [(2, "psycopg"), (5, "asyncpg")]
    for first, driver in drivers:
        db.configure(db.Settings(url=make_url(database.url()), async_driver=driver))
        with db.begin(tenant="acme") as tx:
            tx.execute(statement(first), {"id": 1})
        db.fetch(statement(first + 1).bindparams(id=1), tenant="acme")
        event_loop.run(served(first + 2))
        db.dispose()
        event_loop.close()
    plans.check()
    seen = [(one.sent.fingerprint.text.split(" ")[3], one.sent.role, one.sent.tenant) for one in plans.explained]
    roles = [database.app, database.owner, *[database.app] * 6]
    tenants = [None, None, *["acme"] * 6]
    assert seen == [(f"from_{number}", roles[number], tenants[number]) for number in range(8)]


def test_what_reads_a_table_whole_is_found(conn: Connection, plans: Plans) -> None:
    """On tables without a row, as the planner would have to do it on large ones; by an index it is no better."""
    for statement in WHOLE:
        conn.execute(text(statement))
    findings = found(plans)
    assert {one.kind for one in findings} == {"sequential scan"}
    problems = {one.statement.text: one.problem.partition(":")[0] for one in findings}
    assert problems == {fingerprint(statement).text: problem for statement, problem in WHOLE.items()}


def test_what_an_index_can_serve_is_right(conn: Connection, plans: Plans) -> None:
    """Whichever of several it is: a policy's own too, and one that LIMIT stops early."""
    conn.execute(text("SELECT set_config('app.tenant_id', 'acme', false)"))
    for statement in SERVED:
        conn.execute(text(statement))
    plans.check()
    assert {fingerprint(statement) for statement in SERVED} < {one.sent.fingerprint for one in plans.explained}


def test_an_index_without_the_tenant_is_found(conn: Connection, plans: Plans, postgres: Postgres) -> None:
    """As the role that the policy is for; for the tables' owner, who is above it, there is nothing to miss."""
    database = conn.engine.url.database or ""
    postgres.execute("DROP INDEX secured_tenant_id_body_idx", database=database)
    conn.execute(text("SELECT set_config('app.tenant_id', 'acme', false)"))
    conn.execute(text("SELECT body FROM secured WHERE author = 1"))
    (one,) = found(plans)
    assert (one.kind, str(one.table), one.role) == ("tenant", "secured", conn.engine.url.username)
    postgres.execute(f"ALTER ROLE {conn.engine.url.username} BYPASSRLS")
    conn.execute(text("SELECT body FROM secured WHERE author = 1"))
    plans.check()


def test_an_index_that_the_policy_cannot_use_is_found(conn: Connection, plans: Plans) -> None:
    """It begins with the tenant, but the policy compares something else: its text."""
    conn.execute(text("SELECT set_config('app.tenant_id', 'acme', false)"))
    conn.execute(text("SELECT id FROM as_text WHERE id = 1"))
    (one,) = found(plans)
    assert (one.kind, str(one.table)) == ("tenant", "as_text")


def test_the_type_that_was_sent_decides(conn: Connection, plans: Plans) -> None:
    """The same statement finds its index by a whole number, and none by a decimal."""
    statement = text("SELECT id FROM notes WHERE code = :code")
    conn.execute(statement, {"code": 1})
    plans.check()
    conn.execute(statement, {"code": Decimal(1)})
    (one,) = found(plans)
    assert "numeric" in one.problem


def test_few_rows_and_fresh_statistics_deceive_nobody(conn: Connection, plans: Plans, postgres: Postgres) -> None:
    """By which the planner would read the table whole, index or not."""
    rows = "INSERT INTO customers SELECT number, 'c' FROM generate_series(1, 20) AS number; ANALYZE customers"
    postgres.execute(rows, database=conn.engine.url.database or "")
    conn.execute(text("SELECT name FROM customers WHERE id = 7"))
    plans.check()
    kept = "SELECT reltuples FROM pg_class WHERE relname = 'customers'"
    assert postgres.execute(kept, database=conn.engine.url.database or "") == [(20.0,)]


def test_a_foreign_key_without_an_index_is_found_once(conn: Connection, plans: Plans) -> None:
    """From where it stands, and from where rows go that it may refer to."""
    conn.execute(text("DELETE FROM customers WHERE id = 1"))
    conn.execute(text("INSERT INTO replies VALUES (1)"))
    (one,) = found(plans)
    assert (one.kind, str(one.table), one.statement.summary) == ("foreign key", "replies", "DELETE customers")
    assert "replies_customer (customer)" in one.problem
    conn.execute(text("INSERT INTO replies VALUES (2)"))
    assert [one.statement.summary for one in found(plans)] == ["INSERT replies"]


def test_what_has_no_plan_is_counted(conn: Connection, plans: Plans, postgres: Postgres) -> None:
    """With the reason; and a second statement behind the first is not run in its place."""
    conn.execute(text("CREATE TEMP TABLE gone (id int)"))
    conn.execute(text("SELECT id FROM gone"))
    conn.exec_driver_sql("SELECT 1; DELETE FROM customers")
    with pytest.raises(exc.ProgrammingError):
        conn.exec_driver_sql("COPY customers TO '/dev/null'")
    conn.rollback()
    conn.execute(text("SELECT id FROM customers WHERE id = 1"))
    plans.check()
    reasons = [(one.sent.fingerprint.text.split(" ")[0], one.reason) for one in plans.unexplained]
    assert reasons == [
        ("CREATE", "CREATE has no plan"),
        ("SELECT", 'relation "gone" does not exist'),
        ("SELECT", "cannot insert multiple commands into a prepared statement"),
        ("COPY", "COPY has no plan"),
    ]


def test_a_test_that_sends_nothing_fails(conn: Connection, plans: Plans) -> None:
    """What reads no table is nothing, and so is what goes elsewhere."""
    conn.execute(text("SELECT 1"))
    elsewhere = create_engine("sqlite://")
    with elsewhere.connect() as other:
        other.execute(text("SELECT 2"))
    elsewhere.dispose()
    with pytest.raises(PlansError, match=r"looked at nothing[^\n]*\nSELECT \?: it was sent to sqlite"):
        plans.check()
    conn.execute(text("SELECT id FROM customers WHERE id = 1"))


def test_an_exception_has_a_name_and_a_reason(conn: Connection, plans: Plans) -> None:
    """A table's or a statement's."""
    conn.execute(text("SELECT * FROM notes WHERE body = 'a'"))
    conn.execute(text("SELECT * FROM replies WHERE body = 'a'"))
    in_notes, *in_replies = found(plans)
    assert {one.kind for one in in_replies} == {"sequential scan", "foreign key"}
    with pytest.raises(ValueError, match="needs a reason"):
        plans.allow("notes", reason=" ")
    plans.allow("replies", reason="there are few")
    plans.allow(in_notes.statement.id, reason="it runs once a year")
    conn.execute(text("SELECT * FROM notes WHERE body = 'a'"))
    conn.execute(text("SELECT * FROM replies WHERE body = 'a'"))
    plans.check()
    assert plans.allowed == [in_notes, *in_replies]


def test_a_table_that_stays_small_may_be_read_whole(conn: Connection, plans: Plans) -> None:
    """Up to a number of rows that the test says."""
    plans.assume({"public.notes": 500})
    conn.execute(text("SELECT * FROM notes WHERE body = 'a'"))
    plans.check()
    plans.assume(above=499)
    conn.execute(text("SELECT * FROM notes WHERE body = 'a'"))
    assert [str(one.table) for one in found(plans)] == ["notes"]


def test_a_misspelt_exception_is_refused(conn: Connection, postgres: Postgres) -> None:
    """It would let nothing pass, and nobody would be told."""
    with (
        pytest.raises(ValueError, match=r"does not have: note, customer$"),
        looking_at(postgres, conn.engine.url.database or "") as plans,
    ):
        plans.allow("customer", reason="there are few")
        plans.assume({"note": 5})
    conn.execute(text("SELECT id FROM customers WHERE id = 1"))


def test_the_end_of_the_test_looks_too(engine: Engine, postgres: Postgres) -> None:
    """A test that never asks fails as well, and what comes later is not watched, not even by SQLAlchemy's flag."""
    before = Engine._has_events
    with (
        pytest.raises(PlansError, match="notes: no index serves it"),
        looking_at(postgres, engine.url.database or ""),
        engine.connect() as conn,
    ):
        conn.execute(text("SELECT * FROM notes WHERE body = 'a'"))
    assert Engine._has_events is before


@pytest.mark.parametrize(
    ("paramstyle", "statement", "parameters", "expected"),
    [
        ("pyformat", "%(b)s = %(a)s::int + %(b)s %% 2", {"a": 1, "b": 2}, "$1::bigint = $2::int + $1::bigint % 2"),
        ("format", "%s = %s", (1, 2), "$1::bigint = $2"),
        ("pyformat", "100 %% 2", None, "100 %% 2"),
        ("numeric_dollar", "$1 = 2 % 1", (1,), "$1 = 2 % 1"),
    ],
)
def test_placeholders_become_the_servers(paramstyle: str, statement: str, parameters: Any, expected: str) -> None:
    """In their order, a name that comes twice as one, each with its type where that was sent."""
    given = numbered(statement, paramstyle, parameters)
    assert given is not None
    assert given.text(["bigint", None]) == expected
