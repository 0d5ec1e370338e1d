"""The stand-in for Aurora DSQL: it lets in, refuses and counts as the documents say."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from db.credentials.sigv4 import Signer
from devkit.network.dsql_refusals import told
from devkit.servers.dsql import REGION

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.servers.dsql import DsqlStandIn

Connect = "Callable[..., psycopg.Connection[Any]]"


@pytest.fixture
def connect(dsql: DsqlStandIn) -> Callable[..., psycopg.Connection[Any]]:
    def open_one(user: str = "admin", *, now: float | None = None, action: str = "DbConnectAdmin") -> Any:
        import time

        signer = Signer(keys=dsql.keys, service="dsql", region=REGION, now=time.time() if now is None else now)
        return psycopg.connect(
            host=dsql.host,
            hostaddr=dsql.wire.host,
            port=dsql.wire.port,
            user=user,
            dbname="postgres",
            password=signer.presigned(host=dsql.host, query={"Action": action}, expires_s=900),
            sslmode="verify-full",
            sslrootcert=str(dsql.sslrootcert),
            sslnegotiation="direct",
            autocommit=True,
        )

    return open_one


def test_a_token_opens_the_door_that_it_is_for(connect: Callable[..., psycopg.Connection[Any]]) -> None:
    """By its right, and for its life: in DSQL's words."""
    with connect() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    for wrong in ({"action": "DbConnect"}, {"user": "app"}, {"now": 0.0}):
        with pytest.raises(psycopg.OperationalError, match="unable to accept connection, access denied"):
            connect(**wrong)
    with connect("app", action="DbConnect") as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SAVEPOINT a", "unsupported statement: Savepoint"),
        ("ROLLBACK TO SAVEPOINT a", "unsupported statement: RollbackTo"),
        ("SET LOCAL statement_timeout = '3s'", 'setting configuration parameter "statement_timeout" not supported'),
        ("SET search_path TO shop", None),
        ("SET CONSTRAINTS ALL IMMEDIATE", None),
        ("SELECT set_config('app.tenant_id', 'a', true)", "function set_config not supported"),
        ("SELECT pg_try_advisory_lock(1)", "function pg_try_advisory_lock not supported"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "unsupported isolation level: serializable"),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", None),
        ("SET TRANSACTION READ ONLY", "unsupported statement: SetTransaction"),
        ("CREATE TEMP TABLE a (n int)", "unsupported statement: CreateTemporary"),
        ("CREATE TABLE a (n serial)", "datatype serial not supported"),
        ("CREATE TABLE a AS SELECT 1", "unsupported statement: CreateTableAs"),
        ("CREATE TABLE a (n bigint GENERATED ALWAYS AS IDENTITY (CACHE 1))", None),
        ("CREATE INDEX i ON a (n)", "unsupported mode. please use CREATE INDEX ASYNC"),
        ("CREATE UNIQUE INDEX ASYNC i ON a (n)", None),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ $$", "language plpgsql not supported"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$", None),
        ("ALTER TABLE a ENABLE ROW LEVEL SECURITY", "unsupported ALTER TABLE ROW LEVEL SECURITY statement"),
        ("COPY a FROM '/a.csv'", "unsupported statement: Copy"),
        ("COPY a FROM STDIN", None),
        ("DEALLOCATE ALL", None),
        ("SELECT 'SAVEPOINT a' -- set_config(", None),
    ],
)
def test_what_is_known_to_be_refused(text: str, words: str | None) -> None:
    """In the server's own words, where a source has them."""
    (one,) = told(text)
    assert (one.refusal and one.refusal.words) == words


def test_a_transaction_holds_one_ddl_or_rows(connect: Callable[..., psycopg.Connection[Any]]) -> None:
    """What is refused has failed the transaction, as a server's own refusal does."""
    with connect() as conn:
        conn.execute("CREATE TABLE a (n int)")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="multiple ddl"), conn.transaction():
            conn.execute("CREATE TABLE b (n int)")
            conn.execute("CREATE TABLE c (n int)")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="ddl and dml"), conn.transaction():
            conn.execute("CREATE TABLE b (n int)")
            conn.execute("INSERT INTO a VALUES (1)")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction), conn.transaction():
            with contextlib.suppress(psycopg.errors.FeatureNotSupported):
                conn.execute("LOCK TABLE a")
            conn.execute("SELECT 1")
        assert conn.execute("SELECT to_regclass('b')").fetchone() == (None,)


def test_rows_are_counted_to_the_end_of_the_transaction(connect: Callable[..., psycopg.Connection[Any]]) -> None:
    """However many statements write them; what is one too many undoes all."""
    insert = "INSERT INTO a SELECT generate_series(1, %s)"
    with connect() as conn:
        conn.execute("CREATE TABLE a (n int)")
        for _ in range(2):
            with conn.transaction():
                conn.execute(insert, [2000])
        with pytest.raises(psycopg.errors.ProgramLimitExceeded, match="row limit"), conn.transaction():
            conn.execute(insert, [2000])
            conn.execute("UPDATE a SET n = 0 WHERE n = 1")
            with pytest.raises(psycopg.errors.ProgramLimitExceeded), conn.cursor() as cursor:
                cursor.execute(insert, [1000])
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                conn.execute("SELECT 1")
            raise psycopg.errors.ProgramLimitExceeded("row limit")
        assert conn.execute("SELECT count(*) FROM a").fetchone() == (4000,)


def test_a_conflict_undoes_what_wrote_and_nothing_else(
    dsql: DsqlStandIn, connect: Callable[..., psycopg.Connection[Any]]
) -> None:
    """At COMMIT, after which the session goes on; what commits by itself is refused as a whole."""
    with connect() as conn:
        conn.execute("CREATE TABLE a (n int)")
        dsql.wire.conflict("OC000", times=2)
        with conn.transaction():
            conn.execute("SELECT 1")
        with pytest.raises(psycopg.errors.SerializationFailure, match=r"\(OC000\)"), conn.transaction():
            conn.execute("INSERT INTO a VALUES (1)")
        with pytest.raises(psycopg.errors.SerializationFailure):
            conn.execute("INSERT INTO a VALUES (1)")
        assert conn.execute("SELECT count(*) FROM a").fetchone() == (0,)
