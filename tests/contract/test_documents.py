"""What the documents show runs as it stands there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from aws_lambda_powertools.utilities import parameters
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, event, make_url, text

import db
from db import migrations
from db.environment import event_loop, process
from db.migrations import contract
from db.migrations.operations import create_once_table
from db.settings import Settings
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.plugin import Database, MakeLambdaContext, PutSecret
    from devkit.servers.aws import LocalAws
    from devkit.servers.replica import Cluster

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOTES = """
CREATE TABLE notes (tenant_id text NOT NULL DEFAULT current_setting('app.tenant_id'), body text NOT NULL);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notes USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), ''));
GRANT SELECT, INSERT ON notes TO {role}
"""


def python_in(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of ``page`` ends in, on the site as on GitHub."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_the_readmes_handler_works(page: Callable[..., Any], lambda_context: MakeLambdaContext) -> None:
    """Each tenant counts its own notes, in the table of the readme's migration."""
    assert counts_notes(page("../README.md")["handler"], lambda_context) == [1, 2, 1]


def test_what_the_readme_says_is_usual_works_too(
    page: Callable[..., Any], database: Database, secret: PutSecret, lambda_context: MakeLambdaContext
) -> None:
    """It is no straw man: it does the same on the same table."""
    page("../README.md")
    login = {"username": database.app, "password": database.app_password}
    where = {"host": database.host, "port": database.port, "dbname": database.name}
    secret(database.name, {"engine": "postgres", **login, **where})
    usual, _, _ = python_in(ROOT / "README.md")
    shown: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SECRET_ID", database.name)
        patched.setenv("AWS_LAMBDA_FUNCTION_NAME", "notes")
        exec(usual, shown)  # noqa: S102 - the document's own code
    assert counts_notes(shown["handler"], lambda_context) == [1, 2, 1]
    shown["engine"].dispose()
    parameters.clear_caches()  # type: ignore[no-untyped-call]  # its client is for this test's endpoint


def counts_notes(handler: Callable[..., Any], lambda_context: MakeLambdaContext) -> list[int]:
    """What the readme's handler answers to two notes of one tenant and one of another."""
    counted = []
    for tenant in ("acme", "acme", "globex"):
        claims = {"authorizer": {"jwt": {"claims": {"tenant_id": tenant}}}}
        counted.append(handler({"requestContext": claims, "body": "hello"}, lambda_context())["notes"])
    return counted


def test_the_loop_in_the_document_on_seeing_sql_is_warned_of(
    database: Database, postgres: Postgres, lambda_context: MakeLambdaContext, caplog: pytest.LogCaptureFixture
) -> None:
    """And the statement that takes its place is not."""
    create = f"CREATE TABLE orders (id int, status text); GRANT SELECT ON orders TO {database.app}"
    postgres.execute(create, database=database.name)
    db.configure(Settings(url=make_url(database.url())))
    block, _ = python_in(ROOT / "docs" / "run" / "observability.md")
    shown: dict[str, Any] = {}
    exec(block, shown)  # noqa: S102 - the document's own code
    shown["handler"]({"orders": list(range(25))}, lambda_context())
    db.dispose()
    process.DEFAULT._runtime = None
    (line,) = (vars(r) for r in caplog.records if getattr(r, "connection_event", None) == "repeated statement")
    (example,) = re.findall(
        r"^```json\n(.*?)^```", (ROOT / "docs" / "run" / "observability.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert {key: line[key] for key in ("statement", "runs", "fingerprint")}.items() <= json.loads(example).items()


def test_the_documented_route_is_what_prometheus_reads(database: Database) -> None:
    """With the type that says which format it is."""
    _, block = python_in(ROOT / "docs" / "run" / "observability.md")
    shown: dict[str, Any] = {}
    exec(block, shown)  # noqa: S102 - the document's own code
    db.configure(Settings(url=make_url(database.url())))
    with db.read() as conn:
        conn.execute(text("SELECT 1"))
    answer = shown["metrics"]()
    db.dispose()
    process.DEFAULT._runtime = None
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    assert families["db_client_connection_create_time_seconds"].type == "summary"
    assert families["db_client_statements"].type == "counter"


@pytest.mark.slow
def test_the_tests_in_the_documents_pass(tmp_path: Path) -> None:
    """Run by pytest in a project of their own."""
    for number, block in enumerate(python_in(ROOT / "docs" / "reference" / "testing.md")):
        (tmp_path / f"test_documented_{number}.py").write_text(block)
    shop, test_shop = python_in(ROOT / "docs" / "use" / "databases.md")
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "test_shop.py").write_text(test_shop)
    try:
        assert passes(tmp_path)
    finally:
        sys.modules.pop("shop", None)  # another test of this process makes that database as well


def test_what_a_fixture_is_said_to_have_is_there(
    database: Database, postgres: Postgres, local_aws: LocalAws, replicated: Cluster
) -> None:
    """Each name that the table has in code is an attribute, but for those of arguments and of other fixtures."""
    page = (ROOT / "docs" / "reference" / "testing.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `\w+` \| (.*) \|$", page, re.MULTILINE))
    fixtures = {"database": database, "postgres": postgres, "local_aws": local_aws, "replicated": replicated}
    for name, fixture in fixtures.items():
        said = set(re.findall(r"`([a-z]\w*)[^`]*`", rows[name])) - {"params", "postgres"}
        assert [word for word in sorted(said) if not hasattr(fixture, word)] == []


def test_the_revisions_of_the_page_on_deploys_keep_the_contract(
    tmp_path: Path, database: Database, postgres: Postgres
) -> None:
    """The lint has nothing to say of them, and they run: one after the other, on the table that they are of."""
    before = "import sqlalchemy as sa\nfrom alembic import op\nrevision, down_revision = '0002', None\ndef upgrade():\n"
    make = before + "    op.create_table('notes', sa.Column('subject', sa.Text))\n"
    for number, revision in enumerate([make, *python_in(ROOT / "docs" / "run" / "deploys.md")], start=2):
        (tmp_path / f"000{number}.py").write_text(revision)
    assert [found for path in contract.revisions([tmp_path]) for found in contract.findings(path)] == []
    db.configure(Settings(url=make_url(database.url("owner"))))
    assert migrations.upgrade(tmp_path).after == "0005"
    db.dispose()
    process.DEFAULT._runtime = None
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'notes'"
    assert postgres.execute(columns, database=database.name) == [("title",)]


@pytest.fixture
def existing_project(tmp_path: Path) -> Path:
    """The files of the page on projects that exist, with the table that its alembic.ini names."""
    page = ROOT / "docs" / "start" / "existing-project.md"
    _, handler, habit, migration, migrate, tests = python_in(page)
    (ini,) = re.findall(r"^```ini\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    table = 'Table("signups", metadata := MetaData(), Column("email", Text, nullable=False))'
    files = {
        "app.py": handler + habit,
        "migrate.py": migrate,
        "migrations/versions/0001_signups.py": migration,
        "test_app.py": tests,
        "test_habit.py": "from test_app import *\n\ndef test_an_engine(signups):\n    assert app.signups() == 0\n",
        "alembic.ini": ini,
        "tables.py": f"from sqlalchemy import Column, MetaData, Table, Text\n\n{table}\n",
    }
    for name, text_of_file in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text_of_file)
    return tmp_path


def test_a_project_that_exists_is_tested_as_documented(existing_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's handler, migration and function that migrates, by the page's tests."""
    monkeypatch.syspath_prepend(str(existing_project))
    with modules_of_its_own(existing_project):
        assert passes(existing_project)
    process.DEFAULT._runtime = None


def test_alembic_by_hand_works_as_documented(existing_project: Path, database: Database, postgres: Postgres) -> None:
    """The page's alembic.ini finds the revisions, and the tables to compare with, from any folder."""
    variables = os.environ | {"DB_URL": database.url("owner"), "APP_ROLE": database.app}
    for command in ("upgrade head", "check"):
        alembic = [sys.executable, "-m", "alembic", "-c", str(existing_project / "alembic.ini"), *command.split()]
        done = subprocess.run(alembic, cwd="/", env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "No new upgrade operations detected." in done.stdout
    revision = "SELECT version_num FROM alembic_version"
    assert postgres.execute(revision, database=database.name) == [("0001",)]


@contextlib.contextmanager
def modules_of_its_own(project: Path) -> Iterator[None]:
    """Have this process import the modules of ``project``, whatever others of their names it knows: an example's."""
    names = {path.stem for path in project.glob("*.py")}
    others = {name: sys.modules.pop(name) for name in names & sys.modules.keys()}
    try:
        yield
    finally:
        for name in names & sys.modules.keys():
            del sys.modules[name]
        sys.modules.update(others)


def passes(project: Path) -> bool:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--rootdir", str(project)]
    return pytest.main([*options, str(project)]) == 0


@pytest.mark.slow
def test_the_template_of_a_project_that_exists_is_valid(tmp_path: Path) -> None:
    """As the linter of `sam validate --lint` sees it."""
    document = (ROOT / "docs" / "start" / "existing-project.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", document, re.DOTALL | re.MULTILINE)
    (tmp_path / "template.yaml").write_text(block)
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--regions", "eu-central-1", "--", "template.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def page(database: Database, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Runs the code of a page, ``upgrade()`` included, on a database that has ``tables``; gives what it defines."""
    monkeypatch.setenv("APP_ROLE", database.app)
    monkeypatch.setenv("REPORT_ROLE", database.owner)

    def run(name: str, tables: str = "") -> dict[str, Any]:
        postgres.execute(tables.format(role=database.app) or "SELECT 1", database=database.name)
        shown: dict[str, Any] = {"__name__": name}
        code = "\n\n".join(
            block for block in python_in(ROOT / "docs" / name) if "SECRET_ID" not in block and "def test_" not in block
        )
        exec(compile(code, name, "exec", dont_inherit=True), shown)  # noqa: S102 - the document's own code
        db.configure(Settings(url=make_url(database.url("owner"))))
        if "upgrade" in shown:
            with db.begin() as tx, Operations.context(MigrationContext.configure(tx)):
                shown["upgrade"]()
        db.configure(Settings(url=make_url(database.url())))
        return shown

    yield run
    db.dispose()
    process.DEFAULT._runtime = None


def test_once_is_as_documented(page: Callable[..., Any], database: Database, postgres: Postgres) -> None:
    """One charge, one reminder, one answer."""
    shown = page(
        "use/once.md",
        "CREATE TABLE accounts (id int, balance int); CREATE TABLE reminders (customer text);"
        " INSERT INTO accounts VALUES (1, 100); GRANT ALL ON accounts, reminders TO {role}",
    )
    event = {"request_id": "r-1", "charge": {"account": 1, "amount": 30}}
    answers = [shown["handler"](event, None) for _ in range(2)]
    assert [(answer["charged"], answer["replayed"]) for answer in answers] == [(30, False), (30, True)]
    for _ in range(2):
        shown["remind"]("c-1")
    assert shown["charge_once"]({"body": '{"request_id": "r-2", "amount": 1}'}, None)["body"] == "charged"
    counted = "SELECT balance, (SELECT count(*) FROM reminders), (SELECT count(*) FROM db_once) FROM accounts"
    assert postgres.execute(counted, database=database.name) == [(70, 1, 3)]


def test_a_batch_is_as_documented(page: Callable[..., Any], database: Database, postgres: Postgres) -> None:
    """The bad record is reported, the good one stored."""
    shown = page("use/batch.md", "CREATE TABLE readings (value int); GRANT INSERT ON readings TO {role}")
    bodies = {"1": '{"value": 1}', "2": "no reading"}
    records = [{"eventSource": "aws:sqs", "messageId": name, "body": body} for name, body in bodies.items()]
    assert shown["handler"]({"Records": records}, None) == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    assert postgres.execute("SELECT value FROM readings", database=database.name) == [(1,)]


def test_tenants_are_as_documented(page: Callable[..., Any]) -> None:
    """Each sees its own invoices, and one without a name none."""
    handler = page("start/tenants.md")["handler"]
    seen = {}
    for tenant, number in (("acme", "1"), ("globex", "1"), ("acme", "2")):
        claims = {"authorizer": {"jwt": {"claims": {"tenant_id": tenant}}}}
        seen[tenant] = handler({"requestContext": claims, "number": number}, None)
    assert seen == {"acme": ["1", "2"], "globex": ["1"]}
    with db.read() as conn:
        assert conn.execute(text("SELECT count(*) FROM invoices")).scalar_one() == 0


def test_a_second_database_is_as_documented(
    page: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: Database, postgres: Postgres
) -> None:
    """One order and one entry for an event that comes twice, in whatever place it was cut off before."""
    monkeypatch.setenv("AUDIT_DB_URL", f"sqlite:///{tmp_path / 'audit.db'}")
    db.configure(Settings(url=make_url(database.url("owner"))))
    with db.begin() as tx:
        create_once_table(Operations(MigrationContext.configure(tx)), used_by=[database.app])
    shown = page("use/databases.md", "CREATE TABLE orders (id int, customer text); GRANT INSERT ON orders TO {role}")
    with shown["audit"].begin() as tx:
        create_once_table(Operations(MigrationContext.configure(tx)), used_by=[])
        tx.execute(text("CREATE TABLE entries (entry text)"))
    shown["audit"].once("order 1").run(shown["note"], "before it was cut off")
    event = {"id": "e-1", "order": 1, "customer": "c-1"}
    assert [shown["handler"](event, None) for _ in range(2)] == [1, 1]
    assert postgres.execute("SELECT id FROM orders", database=database.name) == [(1,)]
    shown["audit"].dispose()


def test_the_roles_and_the_database_are_made_as_documented() -> None:
    """By a master user who is no superuser, as on RDS."""
    document = (ROOT / "docs" / "start" / "database.md").read_text()
    (block,) = re.findall(r"^```sql\n(CREATE ROLE.*?)^```", document, re.DOTALL | re.MULTILINE)
    with Postgres() as server:
        server.create_role("master", "…", options="LOGIN CREATEROLE CREATEDB")
        login = server.url("postgres", "master", "…").replace("+psycopg", "")
        with psycopg.connect(login, autocommit=True) as master:
            for statement in block.strip().splitlines():
                master.execute(statement.encode())
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'orders'"
        assert server.execute(owner) == [("owner",)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_the_documents_lead_somewhere(document: Path) -> None:
    """To a file that is there, and to a heading of it."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", document.read_text())
    pages = [(document.parent / target if target else document, anchor) for target, anchor in links]
    assert [str(page) for page, anchor in pages if not page.exists() or (anchor and anchor not in anchors(page))] == []


def test_reads_are_as_documented(page: Callable[..., Any]) -> None:
    """One, two of one state, two at once."""
    shown = page(
        "use/reads.md",
        "CREATE TABLE orders (id int, status text); INSERT INTO orders VALUES (1, 'open'), (2, 'done');"
        " GRANT SELECT ON orders TO {role}",
    )
    assert (shown["one"]("acme"), shown["consistent"]("acme"), shown["together"]("acme")) == (1, (1, 2), (1, [2, 1]))


def test_bulk_loads_are_as_documented(
    page: Callable[..., Any], database: Database, postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines of a file, mappings, and a table's rows replaced."""
    shown = page(
        "use/bulk.md", "CREATE TABLE prices (sku text, currency text, minor int); GRANT ALL ON prices TO {role}"
    )
    assert shown["load"](["a,EUR,100", "b,EUR,250"], "acme") == 2
    assert "2 rows" in capsys.readouterr().out
    assert shown["load_some"]([{"sku": "c", "minor": 1}]) == 1
    db.run(shown["replace"], [("d", "EUR", 1)])
    assert postgres.execute("SELECT * FROM prices", database=database.name) == [("d", "EUR", 1)]


def test_sessions_and_reflection_are_as_documented(page: Callable[..., Any], tmp_path: Path) -> None:
    """With a snapshot, no connection is opened for the schema."""
    shown = page(
        "use/orm.md",
        "CREATE TABLE customers (id int PRIMARY KEY, name text); INSERT INTO customers VALUES (1, 'a');"
        " GRANT ALL ON customers TO {role}",
    )
    assert shown["rename"](1, "b").name == "b"
    assert shown["names"]() == ["b"]
    shown["build"](tmp_path / "schema")
    assert set(shown["at_run_time"](tmp_path / "schema").tables) == {"customers"}


def test_the_habits_of_sqlalchemy_work_as_documented(
    page: Callable[..., Any], database: Database, postgres: Postgres
) -> None:
    """One line of each section, on the table of its first."""
    shown = page("start/from-sqlalchemy.md", "CREATE TABLE orders (id int PRIMARY KEY, status text)")
    postgres.execute(f"ALTER TABLE orders OWNER TO {database.app}", database=database.name)
    counts: dict[str, int] = {}
    shown["count_statements"](counts)
    shown["add"](1)
    assert shown["is_open"](1)
    shown["close_safely"](1)
    assert not shown["is_open"](1)
    assert counts == {"INSERT": 1, "SELECT": 2, "UPDATE": 1}
    assert len(shown["seen"]) == 4
    event.remove(Engine, "before_cursor_execute", shown["note"])
    assert shown["sorted_in_memory"]() == "64MB"
    shown["tidy"]()
    connects, engines = shown["numbers"]()
    assert (connects, engines["writer"]["kind"], engines["writer"]["checked_out"]) == (1, "QueuePool", 0)


def test_units_of_work_are_as_documented(page: Callable[..., Any], database: Database, postgres: Postgres) -> None:
    """A bonus and a transfer; one that is too large leaves no trace but the bonus before it."""
    shown = page(
        "use/units-of-work.md",
        "CREATE TABLE accounts (id int PRIMARY KEY, balance int); INSERT INTO accounts VALUES (1, 0), (2, 0);"
        " GRANT ALL ON accounts TO {role}",
    )
    event = {"account": 1, "target": 2, "bonus": 10}
    assert shown["handler"](event | {"amount": 4}, None) == "done"
    with pytest.raises(shown["TooLittleError"]):
        shown["handler"](event | {"amount": 40}, None)
    balances = "SELECT balance FROM accounts ORDER BY id"
    assert postgres.execute(balances, database=database.name) == [(16,), (4,)]


def test_notifications_come_as_documented(page: Callable[..., Any], database: Database, postgres: Postgres) -> None:
    """Beside the units of work that send them, and the connection is no other's afterwards."""
    shown = page(
        "use/units-of-work.md",
        "CREATE TABLE accounts (id int PRIMARY KEY, balance int); GRANT ALL ON accounts TO {role}",
    )
    heard = shown["orders"](20)
    postgres_listens = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND query LIKE 'LISTEN%%'"

    def send() -> None:
        until = time.monotonic() + 20
        while postgres.execute(postgres_listens, [database.name]) == [(0,)]:
            assert time.monotonic() < until
            time.sleep(0.01)
        db.run(lambda tx: tx.execute(text("SELECT pg_notify('orders', '7')")))

    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(send)
        assert next(heard) == "7"
        sent.result(20)
    heard.close()
    db.dispose()
    assert postgres.all_left(database.name)


def test_a_listener_below_the_async_engine_hears_as_documented(page: Callable[..., Any]) -> None:
    """Each statement of ``db.aio``, and none of ``db``."""
    shown = page("use/aio.md", "CREATE TABLE notes (tenant_id text, body text); GRANT ALL ON notes TO {role}")
    statements: list[str] = []
    shown["listen"](statements)
    assert event_loop.run(shown["notes"]("acme")) == []
    db.fetch(text("SELECT 1"))
    assert statements == ["SELECT body FROM notes ORDER BY body"]
    db.dispose()
    event_loop.close()


def test_the_script_of_the_page_on_testing_prints_its_answer_alone(tmp_path: Path) -> None:
    """With a server of its own, and no log line among it."""
    (script,) = (block for block in python_in(ROOT / "docs" / "reference" / "testing.md") if "__main__" in block)
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "['hello']\n"), done.stderr
