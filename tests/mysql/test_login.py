"""How MariaDB is entered: by a secret that rotates, over TLS that is verified, no password in the open."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.util import greenlet_spawn

import db
from db import aio
from db.credentials.rds_iam import RdsIamSource
from db.environment import event_loop, process
from db.settings import Settings
from db.wire.mysql_async_connections import AsyncMySqlConnection
from db.wire.mysql_connections import MySqlConnection
from db.wire.mysql_loop_socket import LoopSocket
from db.wire.mysql_session import _ClearPassword
from devkit.servers.database import create_mariadb_database
from devkit.servers.mariadb import MariaDb
from devkit.servers.passwords import new_password
from devkit.servers.postgres_install import give, unprivileged_account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devkit.network.mysql_statements import MySqlWire
    from devkit.plugin import Database, PutSecret
    from devkit.servers.aws import LocalAws

ONE = text("SELECT 1")
LONG = "x" * 5_000_000


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    db.dispose()
    event_loop.close()
    process.DEFAULT._runtime = None


def use_secret(database: Database, name: str, **settings: Any) -> None:
    place: dict[str, Any] = {"host": database.host, "port": database.port, "name": database.name}
    db.configure(Settings(secret_id=name, engine="mariadb", sslmode="disable", **place, **settings))


def content(database: Database, **changed: Any) -> dict[str, Any]:
    return {"engine": "mariadb", "username": database.app, "password": database.app_password} | changed


def one() -> int:
    with db.read() as conn:
        return int(conn.execute(ONE).scalar_one())


def test_a_password_that_has_rotated_is_fetched_again(
    mariadb: MariaDb, mariadb_database: Database, wire: MySqlWire, secret: PutSecret, local_aws: LocalAws
) -> None:
    """The handler notices nothing: the refused one was of before."""
    database = mariadb_database.through(wire)
    use_secret(database, secret("orders/app", content(database)))
    assert one() == 1
    asked = local_aws.count("GetSecretValue")
    rotated = new_password()
    mariadb.execute(f"ALTER USER {database.app}@'%' IDENTIFIED BY '{rotated}'")
    secret("orders/app", content(database, password=rotated))
    wire.cut()
    assert one() == 1
    assert local_aws.count("GetSecretValue") == asked + 1


def test_a_password_that_is_wrong_for_good_is_given_up(mariadb_database: Database, secret: PutSecret) -> None:
    """As a refusal, without the password in it."""
    name = secret("orders/app", content(mariadb_database, password=new_password()))
    use_secret(mariadb_database, name, connect_wait_s=0.0)
    with pytest.raises(Exception, match="1045") as refused:
        one()
    assert db.verdict(refused.value) is db.Verdict.REFETCH_CREDENTIALS


@pytest.mark.parametrize(
    ("engine", "said"),
    [("postgres", "other than MariaDB: DB_ENGINE says which"), ("oracle-ee", "other than MariaDB$")],
)
def test_a_secret_of_another_engine_is_refused(
    engine: str, said: str, mariadb_database: Database, secret: PutSecret
) -> None:
    """By its key, before anything is connected to."""
    use_secret(mariadb_database, secret("orders/app", content(mariadb_database, engine=engine)))
    with pytest.raises(db.CredentialsError, match=said):
        one()


def test_a_url_and_an_engine_that_contradict_each_other_are_refused() -> None:
    """Nobody could say which is meant."""
    with pytest.raises(db.ConfigurationError, match="DB_ENGINE=mysql contradicts DB_URL"):
        Settings(url=make_url("postgresql://u@h/d"), engine="mysql")
    with pytest.raises(db.ConfigurationError, match="reached through pymysql"):
        Settings.from_env({"DB_URL": "mysql+mysqldb://u@h/d"})


def test_a_server_that_is_full_is_waited_for(mariadb: MariaDb, mariadb_database: Database) -> None:
    """And named: there is no connection to give."""
    db.configure(Settings(url=make_url(mariadb_database.url()), connect_wait_s=0.0))
    mariadb.execute(f"ALTER USER {mariadb_database.app}@'%' WITH MAX_USER_CONNECTIONS 1")
    held = pymysql.connect(
        host=mariadb.host,
        port=mariadb.port,
        user=mariadb_database.app,
        password=mariadb_database.app_password,
        ssl_disabled=True,
    )
    with pytest.raises(db.CapacityError):
        one()
    held.close()
    assert mariadb.all_left(mariadb_database.name)


@pytest.fixture(scope="module")
def authority() -> Iterator[Path]:
    """A folder with an authority and a certificate of its for 127.0.0.1, readable for the server's account."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)

    def openssl(*arguments: str) -> None:
        command = ["openssl", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder)

    fresh = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *fresh, "-subj", "/CN=authority", "-days", "1", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", *fresh, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "names"]
    openssl("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
    openssl("req", "-x509", *fresh, "-subj", "/CN=another", "-days", "1", "-keyout", "x.key", "-out", "another.pem")
    for file in folder.iterdir():
        give(file, unprivileged_account())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def encrypted(authority: Path) -> Iterator[Database]:
    """A database on a server with TLS."""
    settings = {"ssl-ca": "ca.pem", "ssl-cert": "server.pem", "ssl-key": "server.key"}
    with MariaDb(settings={name: str(authority / file) for name, file in settings.items()}) as server:
        yield create_mariadb_database(server)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["db", "aio"])
@pytest.mark.parametrize(
    ("roots", "host", "says"),
    [("ca.pem", "127.0.0.1", None), ("another.pem", "127.0.0.1", "verify failed"), ("ca.pem", "localhost", "mismatch")],
)
def test_the_certificate_is_verified(
    roots: str, host: str, says: str | None, encrypted: Database, authority: Path, *, asynchronous: bool
) -> None:
    """The authority, and the host's name; what fails there would fail again, and no password has been sent."""
    trusted = str(authority / roots)
    url = make_url(encrypted.url())
    db.configure(Settings(url=url, host=host, sslmode="verify-full", sslrootcert=trusted, connect_wait_s=5.0))

    async def awaited() -> str:
        async with aio.read() as conn:
            # More than one record of TLS has, both ways.
            asked = text("SELECT :long, variable_value FROM information_schema.session_status WHERE variable_name = :n")
            long, cipher = (await conn.execute(asked, {"long": LONG, "n": "Ssl_cipher"})).one()
            assert long == LONG
            return str(cipher)

    def plain() -> str:
        with db.read() as conn:
            return str(conn.execute(text("SHOW STATUS LIKE 'Ssl_cipher'")).one()[1])

    def ask() -> str:
        return event_loop.run(awaited()) if asynchronous else plain()

    if says is None:
        assert ask()
        return
    with pytest.raises(Exception, match=says) as refused:
        ask()
    assert db.verdict(refused.value) is db.Verdict.GIVE_UP


def test_tls_is_asked_for_where_the_traffic_leaves_the_machine() -> None:
    """Without certificates to trust it is refused, and so is a way around the settings."""
    db.configure(Settings(url=make_url("mysql://u:p@db.example.com/d")))
    with pytest.raises(db.ConfigurationError, match="verify-full is to verify"):
        one()
    db.configure(Settings(url=make_url("mysql://u:p@127.0.0.1/d?ssl_ca=x&read_timeout=1")))
    with pytest.raises(db.ConfigurationError, match=r"read_timeout.*ssl.*DB_SSLMODE"):
        one()


def test_no_certificate_is_read_where_none_is_verified(encrypted: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS all the same, as the server has it: to read the machine's takes longer than a connect."""
    monkeypatch.setattr(ssl, "create_default_context", None)
    db.configure(Settings(url=make_url(encrypted.url()), host="127.0.0.1", sslmode="prefer"))
    with db.read() as conn:
        assert conn.execute(text("SHOW STATUS LIKE 'Ssl_cipher'")).one()[1]


def test_a_password_is_not_given_away_unencrypted() -> None:
    """RDS asks for a token as it is, and so may whoever answers in the server's place."""

    class Unencrypted:
        _secure, _ssl_required, password = False, False, b"token"

    with pytest.raises(pymysql.err.OperationalError, match="verify-full") as refused:
        _ClearPassword(Unencrypted()).authenticate(None)  # type: ignore[arg-type]
    assert db.verdict(refused.value) is db.Verdict.GIVE_UP


def test_a_token_is_signed_for_the_engines_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """3306, where no other is named."""
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-central-1"}.items():
        monkeypatch.setenv(name, value)
    settings = Settings(auth="iam", engine="mysql", host="db.example.com", name="d", user="u", sslrootcert="x")
    token = RdsIamSource(settings, "db.example.com", clock=time.time).current()
    assert token.password.startswith("db.example.com:3306/?Action=connect&DBUser=u")
    assert token.port == 3306


@pytest.mark.parametrize("asynchronous", [False, True], ids=["db", "aio"])
def test_a_server_that_lets_in_and_says_nothing_is_given_up(*, asynchronous: bool) -> None:
    """After DB_CONNECT_TIMEOUT_S, as one that is out of reach: PyMySQL's own limit is for the connect alone."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place: dict[str, Any] = {"host": "127.0.0.1", "port": silent.getsockname()[1], "connect_timeout": 0.1}
        with pytest.raises(pymysql.err.OperationalError) as refused:
            if asynchronous:
                event_loop.run(greenlet_spawn(functools.partial(AsyncMySqlConnection, user="u", **place)))
            else:
                MySqlConnection(user="u", **place)
    assert db.verdict(refused.value) is db.Verdict.RECONNECT


def test_an_address_that_does_not_answer_leaves_the_next_its_time() -> None:
    """A name may lead to several, and DB_CONNECT_TIMEOUT_S is for each, as it is in the plain connect."""

    async def scenario(silent: socket.socket, answering: socket.socket) -> str:
        async def found(*_: Any, **__: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", one.getsockname()) for one in (silent, answering)]

        asyncio.get_running_loop().getaddrinfo = found  # type: ignore[method-assign]
        line = await greenlet_spawn(LoopSocket.connected, ("db.example.com", 3306), 0.2)
        try:
            return str(line.getpeername())
        finally:
            line.close()

    with contextlib.ExitStack() as open_:
        silent = open_.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # nobody accepts, and beyond these the kernel answers none
            waiting = open_.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        answering = open_.enter_context(socket.create_server(("127.0.0.1", 0)))
        assert event_loop.run(scenario(silent, answering)) == str(answering.getsockname())
