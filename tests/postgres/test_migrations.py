"""Alembic under its lock."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import exc, text

import db
from db import migrations
from db.migrations.operations import is_features
from handlers.migrate import VERSIONS
from handlers.orders.tables import metadata

from .conftest import Use

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.postgres import Postgres

ROOT = Path(__file__).parents[2]
SLOW = """
revision = "a1"
down_revision = None
from alembic import op
def upgrade():
    op.execute("CREATE TABLE made (n int)")
    op.execute("SELECT pg_sleep(0.3)")
"""


SLOWER = """
revision = "a2"
down_revision = "a1"
from alembic import op
def upgrade():
    op.execute("SELECT pg_sleep(60)")
"""

CONCURRENTLY = """
revision = "a2"
down_revision = "a1"
from alembic import op
def upgrade():
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY made_n ON made (n)")
"""


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A folder of one migration that takes its time."""
    (tmp_path / "a1_slow.py").write_text(SLOW)
    return tmp_path


def upgraded_twice_at_once(versions: Path) -> list[migrations.Upgraded]:
    """What two runners that start together come to."""
    done: list[migrations.Upgraded] = []
    threads = [threading.Thread(target=lambda: done.append(migrations.upgrade(versions))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return done


@pytest.fixture(autouse=True)
def _owner(use: Use, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ROLE", database.app)
    monkeypatch.setenv("REPORT_ROLE", database.owner)
    use(role="owner")


def test_migrations_make_the_tables_that_the_code_describes() -> None:
    """Alembic finds nothing to add or to remove."""
    migrations.upgrade(VERSIONS)
    with db.engine().connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "include_name": is_features})
        assert [step for step in compare_metadata(context, metadata) if "alembic_version" not in str(step)] == []


def test_a_second_upgrade_finds_nothing_to_do() -> None:
    """And says where it was."""
    assert migrations.upgrade(VERSIONS) == migrations.Upgraded(None, "0002")
    assert migrations.upgrade(VERSIONS) == migrations.Upgraded("0002", "0002")


def test_two_runners_take_turns(slow: Path) -> None:
    """The second waits for the first, and then has nothing to do."""
    done = upgraded_twice_at_once(slow)
    assert sorted(done, key=str, reverse=True) == [migrations.Upgraded(None, "a1"), migrations.Upgraded("a1", "a1")]


def test_a_runner_waits_no_longer_than_its_invocation(use: Use, slow: Path, lambda_context: MakeLambdaContext) -> None:
    """So that a custom resource can still be answered."""
    use(role="owner", deadline_reserve_s=0.1)
    handler = db.invocation(lambda _event, _context: migrations.upgrade(slow))
    with migrations.locked_connection(), pytest.raises(db.DeadlineError):
        handler({}, lambda_context(remaining_s=0.5))


def test_migrations_end_with_their_invocation(use: Use, slow: Path, lambda_context: MakeLambdaContext) -> None:
    """All of them together, and nothing of them stays."""
    (slow / "a2_slower.py").write_text(SLOWER)
    use(role="owner", deadline_reserve_s=1)
    context = lambda_context(remaining_s=3)
    with pytest.raises(exc.DBAPIError) as caught:
        db.invocation(lambda _event, _context: migrations.upgrade(slow))({}, context)
    assert db.sqlstate(caught.value) in {"57014", "25P04"}
    assert context.get_remaining_time_in_millis() > 0
    (slow / "a2_slower.py").unlink()
    assert migrations.upgrade(slow).before is None


def test_an_index_is_made_concurrently_while_another_runner_waits(slow: Path) -> None:
    """In a block of its own outside the transaction; whoever waits for the lock holds no snapshot that it waits for."""
    (slow / "a2_slower.py").write_text(CONCURRENTLY)
    done = upgraded_twice_at_once(slow)
    assert {upgraded.after for upgraded in done} == {"a2"}
    assert len(done) == 2


def test_the_lock_and_its_settings_end_with_the_upgrade(slow: Path, database: Database, postgres: Postgres) -> None:
    """Neither the pool nor the server keeps anything of it."""
    migrations.upgrade(slow)
    assert postgres.all_left(database.name, user=database.owner)
    assert postgres.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


def test_rows_without_a_tenant_can_be_neither_seen_nor_made(use: Use, database: Database, postgres: Postgres) -> None:
    """The policies fail closed, for the owner too."""
    migrations.upgrade(VERSIONS)
    postgres.execute(
        "INSERT INTO orders (tenant_id, id, customer, currency, total_minor)"
        " VALUES ('acme', gen_random_uuid(), 'c', 'EUR', 1)",
        database=database.name,
    )
    use()
    with db.read() as conn:
        assert conn.execute(text("SELECT count(*) FROM orders")).scalar_one() == 0
    insert = text("INSERT INTO orders (id, customer, currency, total_minor) VALUES (gen_random_uuid(), 'c', 'EUR', 1)")
    with db.begin(tenant="acme") as tx:
        tx.execute(text("SELECT 1"))  # from here on the session knows the setting, and it is empty
    with pytest.raises(exc.ProgrammingError, match="row-level security"), db.begin() as tx:
        tx.execute(insert)


@pytest.mark.parametrize(("tenant", "seen"), [("acme", 1), ("globex", 0)])
def test_a_tenant_sees_its_own_rows(tenant: str, seen: int, use: Use, database: Database) -> None:
    """And can make none of another's."""
    migrations.upgrade(VERSIONS)
    use()
    insert = text(
        "INSERT INTO orders (tenant_id, id, customer, currency, total_minor)"
        " VALUES (:tenant, gen_random_uuid(), 'c', 'EUR', 1)"
    )
    with db.begin(tenant="acme") as tx:
        tx.execute(insert, {"tenant": "acme"})
    with db.read(tenant=tenant) as conn:
        assert conn.execute(text("SELECT count(*) FROM orders")).scalar_one() == seen
    with pytest.raises(exc.ProgrammingError, match="row-level security"), db.begin(tenant="acme") as tx:
        tx.execute(insert, {"tenant": "globex"})


def test_the_application_owns_nothing_and_alters_nothing(use: Use) -> None:
    """Row-level security is the owner's to lift."""
    migrations.upgrade(VERSIONS)
    use()
    for statement in ("ALTER TABLE orders DISABLE ROW LEVEL SECURITY", "DELETE FROM orders", "DROP TABLE order_lines"):
        with pytest.raises(exc.ProgrammingError, match=r"must be owner|permission denied"), db.begin() as tx:
            tx.execute(text(statement))


def test_work_by_hand_goes_through_alembics_own_command(
    database: Database, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    """``DB_URL=… alembic upgrade head``, and back down."""
    from alembic import command
    from alembic.config import Config

    monkeypatch.chdir(ROOT)
    config: Any = Config(str(ROOT / "alembic.ini"))
    command.upgrade(config, "head")
    command.check(config)
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert postgres.execute(tables, database=database.name) == [(4,)]
    command.downgrade(config, "base")
    assert postgres.execute(tables, database=database.name) == [(1,)]


def test_the_statements_are_printed_without_a_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``alembic upgrade head --sql``, for whom another team migrates."""
    from alembic import command
    from alembic.config import Config

    monkeypatch.chdir(ROOT)
    before = db.status()["totals"]["connects"]
    command.upgrade(Config(str(ROOT / "alembic.ini"), stdout=sys.stdout), "head", sql=True)
    assert "CREATE TABLE orders" in capsys.readouterr().out
    assert db.status()["totals"]["connects"] == before


def test_a_new_migration_passes_the_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Alembic writes it."""
    from alembic import command
    from alembic.config import Config

    monkeypatch.chdir(ROOT)
    config = Config(str(ROOT / "alembic.ini"))
    config.set_main_option("version_locations", str(tmp_path))
    command.revision(config, "what it does", rev_id="0001")
    (made,) = tmp_path.glob("*.py")
    ruff = [sys.executable, "-m", "ruff"]
    ignored = ["--config", "lint.per-file-ignores = {}", "--ignore", "F401,INP001"]
    for command_line in ([*ruff, "check", *ignored, str(made)], [*ruff, "format", "--check", str(made)]):
        subprocess.run(command_line, check=True, cwd=ROOT, capture_output=True)
