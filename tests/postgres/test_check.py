"""``db.check`` on a server: nothing to say of what is right, little to pay, and each fault by its name."""

from __future__ import annotations

import json
import re
import shutil
import socketserver
import struct
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import make_url, text

import db
from db import aio
from db.__main__ import main
from db.environment import event_loop
from db.errors import DOCUMENTATION
from db.migrations.operations import create_once_table, enable_tenant_rls, grant
from db.settings import Settings
from db.telemetry import log
from devkit.servers.postgres_install import give, unprivileged_account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from db.migrations.preflight import Finding
    from devkit.plugin import Database, MakePgBouncer, MakeWire
    from devkit.servers.postgres import Postgres

    from .conftest import Lines, Use


DOCS = Path(__file__).parents[2] / "docs"
STARTUP = 3 << 16  # of the protocol
PAGE = DOCS / "run" / "check.md"


@pytest.fixture
def schema(use: Use, database: Database) -> Database:
    """A table of tenants and that of ``db.once``, as the documents show them, and a runtime as ``app``."""
    use(role="owner")
    with db.begin() as tx:
        op = Operations(MigrationContext.configure(tx))
        default = sa.text("current_setting('app.tenant_id')")
        op.create_table(
            "notes",
            sa.Column("tenant_id", sa.Text, nullable=False, server_default=default),
            sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
            sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_notes"),
        )
        enable_tenant_rls(op, "notes")
        grant(op, "SELECT, INSERT, UPDATE, DELETE", "notes", to=database.app)
        create_once_table(op, used_by=[database.app])
    use()
    return database


def faults(**arguments: Any) -> dict[str, Finding]:
    """By subject, what is not as it should be."""
    found = db.check(**arguments).findings
    return {one.subject: one for one in found if one.level in {"warning", "error"}}


def test_what_is_right_has_no_fault_and_every_subject_is_spoken_of(schema: Database) -> None:
    """Each subject once, and a sentence for each."""
    report = db.check()
    assert {one.subject: one.seen for one in report.findings if one.level not in {"ok", "not applicable"}} == {}
    subjects = [one.subject for one in report.findings]
    said = PAGE.read_text().partition("## What is looked at")[2].partition("## While it runs")[0]
    assert sorted(subjects) == sorted(re.findall(r"^\| (?!finding)([\w ]+) \|", said, re.MULTILINE))
    assert report.status == 0
    assert "2 tables keep them apart" in str(report)


def test_it_costs_one_connection_and_few_trips(schema: Database, wire: MakeWire) -> None:
    """Three of a login with a password; one for all that is asked, one for the audit, one for the transaction's end."""
    proxy = wire()
    db.configure(Settings(url=make_url(schema.through(proxy).url()), sslmode="disable"))
    before = proxy.counts()
    assert db.check().status == 0
    spent = proxy.counts() - before
    assert (spent.connections, spent.trips) == (1, 6)


@pytest.mark.parametrize(
    ("statement", "subject", "words"),
    [
        ("ALTER TABLE notes DISABLE ROW LEVEL SECURITY", "tenants", "notes"),
        ("REVOKE INSERT ON db_once FROM {app}", "once", "lacks INSERT"),
        ("REVOKE ALL ON notes, db_once FROM {app}", "privileges", "none of 2 tables"),
    ],
)
def test_a_fault_in_the_schema_is_named(use: Use, schema: Database, statement: str, subject: str, words: str) -> None:
    """With what to do, and where to read on."""
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text(statement.format(app=schema.app)))
    use()
    found = faults()[subject]
    assert found.level == "error"
    assert words in found.seen
    assert found.remedy
    page = str(found.page).removeprefix(DOCUMENTATION).partition("/#")[0]
    assert (DOCS / f"{page}.md").is_file()


def test_a_login_whose_sessions_begin_as_another_role_is_looked_at_as_well(
    schema: Database, postgres: Postgres
) -> None:
    """RESET ROLE gives it back what it is."""
    for statement in ("GRANT {owner} TO {app}", "ALTER ROLE {app} SET role = '{owner}'"):
        postgres.execute(statement.format(app=schema.app, owner=schema.owner), database=schema.name)
    found = [one.seen for one in db.check().findings if one.subject == "tenants"]
    assert {one.partition(":")[0] for one in found} >= {"preset-role", "may-own", "owns-tables"}


def test_a_table_is_named_once_for_a_fault_that_each_command_has(schema: Database, postgres: Postgres) -> None:
    """A policy for the reads alone leaves three commands without one."""
    policy = "CREATE POLICY reads ON notes FOR SELECT USING (tenant_id = current_setting('app.tenant_id', true))"
    postgres.execute(f"DROP POLICY tenant ON notes; {policy}", database=schema.name)
    found = [one.seen for one in db.check().findings if one.seen.startswith("no-policy")]
    assert found == [f"no-policy: notes for {schema.app}: no policy lets it INSERT anything, though it is granted"]


def test_what_holds_at_the_login_is_asked_of_who_logs_in(schema: Database, postgres: Postgres) -> None:
    """Its password and its limit, whichever role its sessions begin as; and it goes back to being a superuser."""
    logs_in = f"{schema.app}_logs_in"
    for statement in (
        f"CREATE ROLE {logs_in} LOGIN SUPERUSER CONNECTION LIMIT 7 PASSWORD 'its own' VALID UNTIL 'tomorrow'",
        f"ALTER ROLE {logs_in} SET role = '{schema.app}'",
    ):
        postgres.execute(statement, database=schema.name)
    try:
        db.configure(Settings(url=make_url(schema.url()).set(username=logs_in, password="its own")))
        seen = {one.subject: f"{one.level}: {one.seen}" for one in db.check().findings}
    finally:
        db.dispose()
        postgres.execute(f"DROP ROLE {logs_in}", database=schema.name)
    assert seen["password"] == f"warning: the password of {logs_in} ends in 0 days (VALID UNTIL)"
    assert seen["connections"].startswith(f"ok: 7 (CONNECTION LIMIT of {logs_in})")
    assert seen["privileges"] == f"warning: {logs_in} is a superuser, whom nothing is refused"


@pytest.fixture
def unforced(use: Use, schema: Database) -> None:
    """That table's policies do not bind its owner."""
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text("ALTER TABLE notes NO FORCE ROW LEVEL SECURITY"))
    use()


@pytest.mark.usefixtures("unforced")
def test_a_finding_about_tenants_may_be_meant_to_be() -> None:
    """By name, with its reason, as the audit takes them."""
    assert "notes" in faults()["tenants"].seen
    assert faults(allowed={"notes": "its owner reads all of it, for the report"}) == {}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module that Python would find, and that nobody has written yet."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / f"exceptions_{tmp_path.name}.py"


@pytest.mark.parametrize(
    ("source", "status", "said"),
    [
        ("ALLOWED = {'notes': 'its owner reads all of it', 'policy x on notes': 'of another login'}", 0, "errors: 0"),
        ("ALLOWED = {'tags': 'of another table'}", 2, "not-forced: notes"),
        ("ALLOWED = {'notes': ' '}", 2, "allowed without a reason: notes"),
        ("ALLOWED = ['notes']", 2, "--allowed {module}:ALLOWED: that is of type list, and not a mapping"),
        ("", 2, "has no 'ALLOWED'"),
        (None, 2, "there is no module '{module}'"),
    ],
)
@pytest.mark.usefixtures("unforced")
def test_the_command_takes_the_projects_exceptions(
    source: str | None, status: int, said: str, module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the name of a mapping in its code; one that this login does not need may be another's."""
    if source is not None:
        module.write_text(source)
    assert main(["check", "--allowed", f"{module.stem}:ALLOWED"]) == status
    shown = capsys.readouterr()
    assert said.format(module=module.stem) in shown.out + shown.err


@pytest.mark.parametrize(
    ("settings", "subject", "words"),
    [
        ({"schema": "elsewhere"}, "schema", "elsewhere"),
        ({"proxy": "pgbouncer"}, "proxy", "the server itself answers"),
        ({"reader_host": "127.0.0.1"}, "reader", "a writer answers"),
        ({"proxy": "rds-proxy"}, "prologue function", "there is no function db_begin_unit"),
    ],
)
def test_settings_that_do_not_fit_the_server_are_named(
    use: Use, schema: Database, settings: dict[str, Any], subject: str, words: str
) -> None:
    """A schema that is not there, a proxy that is none."""
    use(**settings)
    assert words in faults()[subject].seen


def test_a_further_database_is_spoken_of_by_its_own_names(
    use: Use, schema: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In what is found, and in what to do about it: another's variables would mend another database."""
    use(role="owner")
    with db.begin() as tx:
        tx.execute(text("CREATE SCHEMA elsewhere; ALTER TABLE db_once SET SCHEMA elsewhere"))
    for given, seen, remedy in (
        (schema.url(), "audit.once would be", "in AUDIT_DB_SCHEMA"),
        ("postgresql://app:x@h.invalid/shop", "AUDIT_DB_SSLROOTCERT", "Correct the setting"),
    ):
        monkeypatch.setenv("AUDIT_DB_URL", given)
        main(["check", "--prefix", "AUDIT_DB_", "--json"])
        found = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["level"] in {"warning", "error"}]
        assert [(seen in one["seen"], remedy in one["remedy"]) for one in found] == [(True, True)], found
        assert not [one for one in found if re.search(r"\b(DB_[A-Z]|db\.)", one["seen"] + one["remedy"])]


@pytest.fixture
def refusing() -> Iterator[int]:
    """The port of a server that refuses every login."""
    said = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0"

    class Refuses(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while struct.unpack("!ii", self.request.recv(8))[1] != STARTUP:
                self.request.sendall(b"N")  # no TLS
            self.request.recv(4096)
            self.request.sendall(b"E" + struct.pack("!i", 4 + len(said)) + said)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_reader_that_refuses_takes_nothing_from_what_the_writer_says(
    use: Use, schema: Database, refusing: int
) -> None:
    """The writer does not stand in for it, so each read fails; all else is as it is without a reader."""
    use(reader_host="127.0.0.1", reader_port=refusing)
    report = db.check()
    (found,) = [one for one in report.findings if one.level in {"warning", "error"}]
    assert (found.subject, "password authentication failed" in found.seen) == ("reader", True)
    assert "2 tables keep them apart" in str(report)


@pytest.mark.parametrize("size", [1, 20])
def test_a_pooler_that_nobody_spoke_of_is_found(
    size: int, schema: Database, pgbouncer: MakePgBouncer, use: Use
) -> None:
    """By the number that it makes up, and by whom it lends the session to; with the setting, it is the right one."""
    through = schema.through(pgbouncer(settings={"default_pool_size": str(size)})).url()
    use(url=make_url(through))
    assert "a pooler lends its connections" in faults()["proxy"].seen
    use(url=make_url(through), proxy="pgbouncer")
    assert faults() == {}


def test_a_pooler_of_sessions_is_none(schema: Database, pgbouncer: MakePgBouncer, use: Use) -> None:
    """It gives a session to one client until that goes, so nothing has to be set for it, and nothing is warned of."""
    use(url=make_url(schema.through(pgbouncer(pool_mode="session")).url()))
    assert faults() == {}
    assert "gave this session to nobody else" in str(db.check())


def test_a_tenant_that_a_pooler_or_the_url_sets_is_found(schema: Database, pgbouncer: MakePgBouncer, use: Use) -> None:
    """A unit of work says that it has none; who has the plain engine is that tenant, and is not told."""
    url = make_url(schema.url()).update_query_dict({"options": "-c app.tenant_id=acme"})
    use(url=url, pool_size=2)
    assert "by the options of DB_URL" in faults()["session"].seen
    ask = text("SELECT current_setting('app.tenant_id', true)")
    with db.begin() as tx, db.engine().connect() as conn:
        assert tx.execute(ask).scalar_one() == ""
        assert conn.execute(ask).scalar_one() == "acme"
    use(url=make_url(schema.through(pgbouncer()).url()), proxy="pgbouncer")
    assert faults() == {}
    with db.engine().connect() as conn:  # as connect_query does, on each of the pooler's connections
        conn.execute(text("SET app.tenant_id = 'acme'"))
        conn.commit()
    assert "by the server or a pooler" in faults()["session"].seen


@pytest.fixture
def said(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> Lines:
    """The log of a process that has warned of nothing yet."""
    monkeypatch.setattr(log, "_said_to_be_unbound", set())
    return lines


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_tenant_on_a_superusers_connection_is_warned_of_once(
    use: Use, database: Database, postgres: Postgres, said: Lines, driver: Literal["psycopg", "asyncpg"]
) -> None:
    """Not for a role that policies bind, nor where no tenant is named."""
    url = make_url(postgres.url(database.name, postgres.superuser, postgres.password))

    def work(tenant: str | None) -> None:
        if driver == "psycopg":
            db.fetch(text("SELECT 1"), tenant=tenant)
        else:
            event_loop.run(aio.fetch(text("SELECT 1"), tenant=tenant))

    use(async_driver=driver, pool="null")
    work("acme")
    for warned_before in (0, 1):
        use(url=url, async_driver=driver, pool="null")
        work(None)
        assert len(said.of("superuser")) == warned_before
        work("acme")
        work("bolt")
    assert len(said.of("superuser")) == 1
    event_loop.close()


@pytest.fixture
def certificate() -> Iterator[Path]:
    """A folder with one for localhost that ends tomorrow, and its key, where the pooler's account may read them."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    named = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    written = ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run([*made, *named, *written], check=True, capture_output=True, timeout=60)
    for file in folder.iterdir():
        give(file, unprivileged_account())
    yield folder
    shutil.rmtree(folder)


def test_a_certificate_that_ends_soon_is_warned_of(
    use: Use, schema: Database, pgbouncer: MakePgBouncer, certificate: Path
) -> None:
    """Where it is verified; where it is not, that is said."""
    files = {f"client_tls_{name}_file": str(certificate / name) for name in ("key", "cert")}
    through = make_url(schema.through(pgbouncer(settings={"client_tls_sslmode": "require"} | files)).url())
    verified: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": str(certificate / "cert")}
    use(url=through, proxy="pgbouncer", **verified)
    assert faults().keys() == {"certificate"}
    assert "ends in 0 days" in faults()["certificate"].seen
    use(url=through, proxy="pgbouncer", sslmode="require")
    seen = {one.subject: one.seen for one in db.check().findings}
    assert seen["TLS"] == "sslmode require, on this machine"
    assert seen["certificate"] == "sslmode require does not look at it"


def test_a_refused_login_is_an_error_and_the_rest_is_said_not_to_apply(
    use: Use, schema: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's status says so, and no password is in what it prints."""
    use(url=make_url(schema.url()).set(password="never shown"))
    assert main(["check", "--json"]) == 2
    said = capsys.readouterr().out
    report = json.loads(said)
    assert "never shown" not in said
    levels = {one["subject"]: one["level"] for one in report["findings"]}
    assert levels["connect"] == "error"
    assert [one["page"].partition("#")[2] for one in report["findings"] if one["page"]] == ["refetch_credentials"]
    assert levels["tenants"] == levels["server"] == "not applicable"
    assert report["status"] == 2
    assert report["settings"]["DB_URL"] == "code"
