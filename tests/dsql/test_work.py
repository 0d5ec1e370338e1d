"""``batch``, ``copy_rows`` and the migrations, where a transaction holds less than elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from sqlalchemy import Column, Integer, MetaData, Table, exc, text

import db
from db import migrations
from db.environment import process
from db.errors import ConfigurationError
from db.migrations.lease import Lease
from db.migrations.lock import LOCK_KEY, locked_connection

from .conftest import add, numbers

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.servers.dsql import DsqlStandIn

    from .conftest import Use

REVISION = """
revision = "a1"
down_revision = None
import sqlalchemy as sa
from alembic import op
def upgrade():
    number = sa.Column("n", sa.BigInteger, sa.Identity(cache=1), primary_key=True)
    op.create_table("made", number, sa.Column("note", sa.Text))
    op.create_index("ix_made_note", "made", ["note"], unique=True)
    op.execute("INSERT INTO made (note) VALUES ('one')")
"""


def event(*bodies: str) -> dict[str, Any]:
    arn = "arn:aws:sqs:us-east-2:1:q.fifo"
    return {
        "Records": [
            {
                "messageId": str(number),
                "body": body,
                "eventSource": "aws:sqs",
                "eventSourceARN": arn,
                "attributes": {"MessageGroupId": body[0]},
            }
            for number, body in enumerate(bodies)
        ]
    }


@pytest.mark.usefixtures("ledger")
def test_each_record_of_a_batch_is_a_transaction(dsql: DsqlStandIn) -> None:
    """One that fails is reported, with those of its group that it would be overtaken by; a conflict is the record's."""
    runs: list[str] = []

    def handle(tx: Any, record: Any) -> None:
        runs.append(record.body)
        add(tx, len(runs))
        if record.body == "b bad":
            raise ValueError(record.body)

    db.run(add, 100)
    said = len(dsql.wire.statements())
    dsql.wire.conflict()
    answer = db.batch(event("a one", "b bad", "b late", "a two"), handle)
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["1", "2"]
    assert runs == ["a one", "a one", "b bad", "a two"]
    assert [one for one in dsql.wire.statements()[said:] if one in {"COMMIT", "ROLLBACK"}] == [
        *("COMMIT", "COMMIT", "ROLLBACK", "COMMIT")
    ]
    assert numbers() == [2, 4, 100]


@pytest.mark.usefixtures("ledger")
def test_more_rows_than_a_transaction_takes_are_refused_or_split(dsql: DsqlStandIn) -> None:
    """All or none as long as that is possible; else by leave, and what has committed is said."""
    rows = [(n, None) for n in range(3001)]
    with pytest.raises(ConfigurationError, match=r"^db.copy_rows on Aurora DSQL: .* chunk_rows=3000"):
        db.copy_rows("ledger", rows)
    with pytest.raises(ConfigurationError, match=r"^db.copy_rows\(chunk_rows=3001\) on Aurora DSQL"):
        db.copy_rows("ledger", rows, chunk_rows=3001)
    assert numbers() == []
    told: list[int] = []
    dsql.wire.conflict()
    assert db.copy_rows("ledger", rows, chunk_rows=3000, progress=told.append) == 3001
    assert told == [3000, 3001]
    with pytest.raises(exc.IntegrityError) as broken:
        db.copy_rows("ledger", [(5000, None), (5001, None), (1, None)], chunk_rows=2)
    assert "2 rows had been loaded and committed before" in "".join(broken.value.__notes__)
    assert numbers()[-2:] == [5000, 5001]


def test_a_migration_commits_each_statement(use: Use, dsql: DsqlStandIn, tmp_path: Path) -> None:
    """One DDL to a transaction, an index in DSQL's own words, and no lock that DSQL has not."""
    versions = tmp_path / "versions"
    versions.mkdir()
    (versions / "a1.py").write_text(REVISION)
    use(user="admin")
    dsql.wire.conflict("OC001", times=3)  # others change the schema, too
    assert migrations.upgrade(versions).after == "a1"
    assert not dsql.wire.conflicts
    assert migrations.upgrade(versions).before == "a1"
    said = dsql.wire.statements()
    assert "CREATE UNIQUE INDEX ASYNC ix_made_note ON made (note)" in said
    assert not {"BEGIN", "COMMIT"} & set(said)
    with db.read() as conn:
        assert conn.execute(text("SELECT count(*) FROM made")).scalar_one() == 1
        assert conn.execute(text("SELECT count(*) FROM db_migration_lease")).scalar_one() == 0


def test_migrations_are_written_down_as_dsql_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``alembic upgrade head --sql`` needs no cluster: no transaction around it, and indexes in DSQL's words."""
    (tmp_path / "a1.py").write_text(REVISION)
    for name, value in {"AUTH": "dsql", "HOST": "abc0.dsql.us-east-2.on.aws", "USER": "admin"}.items():
        monkeypatch.setenv(f"DB_{name}", value)
    command.upgrade(migrations.config(tmp_path), "head", sql=True)
    process.DEFAULT._runtime = None
    said = capsys.readouterr().out
    assert "CREATE UNIQUE INDEX ASYNC ix_made_note ON made (note);" in said
    assert "BEGIN;" not in said


def test_a_second_runner_waits_for_the_lease(use: Use, dsql: DsqlStandIn) -> None:
    """Until it is given back, or has run out; where others come at it all the time, it is not had."""
    use(user="admin")
    with locked_connection(), db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        other = Lease(conn, key=LOCK_KEY, length_s=60.0)
        assert not other.take()
        short = Lease(conn, key=1, length_s=0.001)
        assert short.take()
        assert Lease(conn, key=1, length_s=60.0).take()
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        free = Lease(conn, key=LOCK_KEY, length_s=60.0)
        dsql.wire.conflict("OC000", times=6)
        assert [free.take(), free.take()] == [False, True]


def test_a_number_of_the_servers_making_is_an_identity(use: Use) -> None:
    """SQLAlchemy would make a SERIAL of a plain integer key: refused with what DSQL has in its place."""
    use(user="admin")
    tables = MetaData()
    Table("numbered", tables, Column("n", Integer, primary_key=True))
    with (
        db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as conn,
        pytest.raises(exc.CompileError, match=r"column 'n' would be a SERIAL, .* sa.Identity\(cache=1\)"),
    ):
        tables.create_all(conn)
