"""The roles of an application, made from their secrets by a master that is no superuser, as RDS's is not."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest
from psycopg import sql

import db
from db import migrations
from db.environment import process
from db.migrations import roles
from db.settings import Settings
from devkit.servers.passwords import new_password
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devkit.plugin import MakeWire, PutSecret

TABLE = """
revision = "a1"
down_revision = None
from alembic import op
from db.migrations.operations import create_once_table, enable_tenant_rls, grant
def upgrade():
    op.execute("CREATE SCHEMA of_its_own")
    op.execute("CREATE TABLE made (tenant_id text)")
    enable_tenant_rls(op, "made")
    grant(op, "SELECT", "made", to="{app}")
    create_once_table(op, used_by=["{app}"], purged_by="{report}")
"""


@dataclass
class Account:
    """A server as RDS makes it: a master without superuser, and a database of its own. Nothing else is there yet."""

    server: Postgres
    put: PutSecret
    suffix: str = field(default_factory=lambda: secrets.token_hex(4))

    def __post_init__(self) -> None:
        self.database = f"orders_{self.suffix}"
        self.master, self.owner, self.app, self.report = (
            f"{role}_{self.suffix}" for role in ("master", "owner", "app", "Report 7")
        )
        self.passwords = {role: new_password() for role in (self.master, self.owner, self.app, self.report)}
        for role in self.passwords:
            self.store(role)
        self.server.create_role(self.master, self.passwords[self.master], options="LOGIN CREATEROLE CREATEDB")

    def store(self, role: str) -> None:
        """The secret of a role, in the shape of those that RDS manages itself."""
        self.put(role, {"username": role, "password": self.passwords[role]})

    def create_database(self) -> None:
        self.server.create_database(self.database, owner=self.master)

    def use(self, **settings: Any) -> None:
        place: dict[str, Any] = {"host": self.server.host, "port": self.server.port, "name": self.database}
        db.configure(Settings(**({**place, "secret_id": self.owner, "connect_wait_s": 1} | settings)))

    def make(self) -> list[str]:
        """What the step does, in short."""
        return [
            one.replace(f"_{self.suffix}", "")
            for one in migrations.make_roles(self.master, used_by=[self.app, self.report])
        ]

    def gets_in(self, role: str) -> bool:
        place: dict[str, Any] = {"host": self.server.host, "port": self.server.port, "dbname": self.database}
        try:
            psycopg.connect(**place, user=role, password=self.passwords[role]).close()
        except psycopg.OperationalError:
            return False
        return True

    def drop(self) -> None:
        self.server.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")
        for role in (self.owner, self.app, self.report, self.master):
            self.server.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


@pytest.fixture
def account(postgres: Postgres, secret: PutSecret) -> Iterator[Account]:
    made = Account(postgres, secret)
    made.use()
    yield made
    db.dispose()
    process.DEFAULT._runtime = None
    made.drop()


CREATED = [
    'CREATE ROLE "owner" LOGIN PASSWORD',
    'CREATE ROLE "app" LOGIN PASSWORD',
    'CREATE ROLE "Report 7" LOGIN PASSWORD',
    'GRANT CREATE ON DATABASE "orders" TO "owner"',
    'GRANT CREATE ON SCHEMA "public" TO "owner"',
]


def test_an_empty_server_has_the_roles_that_the_migrations_need(account: Account, tmp_path: Path) -> None:
    """They make tables, policies and a schema as the owner, and grant rights to the others."""
    account.create_database()
    assert account.make() == CREATED
    assert all(account.gets_in(role) for role in account.passwords)
    (tmp_path / "a1.py").write_text(TABLE.format(app=account.app, report=account.report))
    assert migrations.upgrade(tmp_path).after == "a1"


def test_a_database_that_is_not_there_is_made(account: Account) -> None:
    """By the master, who may."""
    assert account.make() == ['CREATE DATABASE "orders"', *CREATED]


def test_a_second_run_does_nothing(account: Account, wire: MakeWire) -> None:
    """One connection of the master, and one of each role that shows that its password is right."""
    account.create_database()
    account.make()
    listening = wire()
    account.use(host=listening.host, port=listening.port)
    assert account.make() == []
    assert listening.counts().connections == 4
    assert [one for one in listening.statements() if "ROLE" in one or "GRANT" in one] == []


def test_one_connection_is_open_at_a_time(account: Account) -> None:
    """The budget of connections has no more for the migration: not while passwords are tried and mended either."""
    account.create_database()
    account.make()
    account.server.execute(f"ALTER DATABASE {account.database} CONNECTION LIMIT 1")
    account.server.execute(f"ALTER ROLE {account.app} PASSWORD 'drifted'")
    assert account.make() == ['ALTER ROLE "app" LOGIN PASSWORD']


@pytest.mark.parametrize("password", ["a wrong one", None])
def test_a_password_that_has_drifted_is_mended(account: Account, password: str | None) -> None:
    """Of that role alone."""
    account.create_database()
    account.make()
    drifted = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(account.app), sql.Literal(password))
    account.server.execute(drifted)
    assert account.make() == ['ALTER ROLE "app" LOGIN PASSWORD']
    assert account.gets_in(account.app)


def test_a_rotation_under_way_is_not_undone(account: Account) -> None:
    """It sets the password first, and makes it the secret's current one then."""
    account.create_database()
    account.make()
    account.passwords[account.app] = new_password()
    client = boto3.client("secretsmanager")
    staged = json.dumps({"username": account.app, "password": account.passwords[account.app]})
    client.put_secret_value(SecretId=account.app, SecretString=staged, VersionStages=["AWSPENDING"])
    rotated = sql.SQL("ALTER ROLE {} PASSWORD {}").format(
        sql.Identifier(account.app), sql.Literal(account.passwords[account.app])
    )
    account.server.execute(rotated)
    assert account.make() == []
    assert account.gets_in(account.app)


def test_rights_that_are_missing_are_given_and_others_left(account: Account) -> None:
    """Where PUBLIC may not connect, and a role may not log in."""
    account.create_database()
    account.make()
    account.server.execute(f"REVOKE CONNECT ON DATABASE {account.database} FROM PUBLIC")
    account.server.execute(f"ALTER ROLE {account.app} NOLOGIN")
    assert account.make() == [
        'ALTER ROLE "app" LOGIN',
        'GRANT CONNECT ON DATABASE "orders" TO "owner"',
        'GRANT CONNECT ON DATABASE "orders" TO "app"',
        'GRANT CONNECT ON DATABASE "orders" TO "Report 7"',
    ]
    assert account.make() == []


def test_no_password_is_in_a_statement(account: Account, wire: MakeWire) -> None:
    """Nor, therefore, in a log of the server: what is sent is a SCRAM verifier."""
    listening = wire()
    account.use(host=listening.host, port=listening.port)
    account.make()
    said = "\n".join(listening.statements())
    assert said.count("SCRAM-SHA-256$") == 3
    assert [role for role, password in account.passwords.items() if password in said] == []


def test_a_master_that_may_not_is_told_what_it_lacks(account: Account) -> None:
    """With the statement that somebody else may run, and without the verifier in it."""
    account.create_database()
    account.server.execute(f"ALTER ROLE {account.master} NOCREATEROLE")
    with pytest.raises(db.ConfigurationError) as caught:
        account.make()
    assert f"'{account.master}' may not run 'CREATE ROLE \"{account.owner}\" LOGIN PASSWORD'" in str(caught.value)
    assert "SCRAM" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_a_role_that_somebody_else_has_made_is_not_the_masters(account: Account) -> None:
    """From PostgreSQL 16 on, CREATEROLE alone is not enough for those."""
    account.create_database()
    account.server.create_role(account.app, "another password")
    with pytest.raises(
        db.ConfigurationError, match=r"may not run 'ALTER ROLE \"app_\w+\" LOGIN PASSWORD' .*ADMIN OPTION"
    ):
        account.make()
    account.server.execute(f"GRANT {account.app} TO {account.master} WITH ADMIN OPTION")
    assert account.make() == ['ALTER ROLE "app" LOGIN PASSWORD']


def test_a_database_of_somebody_else_is_not_the_masters(account: Account, postgres: Postgres) -> None:
    """PostgreSQL warns of a grant that grants nothing; the deploy says so."""
    postgres.create_database(account.database, owner="postgres")
    with pytest.raises(
        db.ConfigurationError, match=r"may not run 'GRANT CREATE ON DATABASE \"orders_\w+\" TO \"owner_"
    ):
        account.make()


def test_a_refused_master_is_the_reason(account: Account) -> None:
    """Its secret is wrong, and nothing was done."""
    account.create_database()
    account.put(account.master, {"username": account.master, "password": "no more"})
    with pytest.raises(Exception, match="password authentication failed for user"):
        account.make()


def test_without_secrets_there_is_nothing_to_make_roles_from(account: Account) -> None:
    """A URL holds one login."""
    db.configure(Settings(url=f"postgresql://x:y@{account.server.host}/x"))
    with pytest.raises(db.ConfigurationError, match="roles are made from their secrets: DB_SECRET_ID names none"):
        migrations.make_roles("master")


@pytest.mark.parametrize("name", ["x" * 64, "Ю" * 32, "pg_app", "public", "none", "nul\0"])
def test_a_name_that_no_role_can_have_is_refused_with_its_secret(account: Account, name: str) -> None:
    """Before the server shortens it, or shows the statement and what is secret of it."""
    account.put("odd", {"username": name, "password": new_password()})
    with pytest.raises(db.ConfigurationError, match=r"^secret 'odd': its username .* cannot be a role's name"):
        migrations.make_roles(account.master, used_by=["odd"])
    by_token(account)
    with pytest.raises(db.ConfigurationError, match=r"^a role that enters with tokens: .* cannot be a role's name"):
        migrations.make_roles(account.master, used_by=[name])


def test_a_statement_that_the_server_refuses_is_not_shown(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL points into it, at the verifier."""
    monkeypatch.setattr(roles, "_check_name", lambda *_: None)
    account.create_database()
    account.put("odd", {"username": "public", "password": new_password()})
    with pytest.raises(psycopg.errors.ReservedName) as refused:
        migrations.make_roles(account.master, used_by=["odd"])
    assert str(refused.value) == 'role name "public" is reserved'
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)


def test_the_schema_of_the_settings_is_the_owners_to_fill(account: Account) -> None:
    """Where it is there; else a migration makes it, and owns it."""
    account.create_database()
    account.use(schema="app_schema, public")
    assert account.make() == CREATED[:4]
    account.server.execute("CREATE SCHEMA app_schema", database=account.database)
    account.server.execute(f"ALTER SCHEMA app_schema OWNER TO {account.master}", database=account.database)
    assert account.make() == [
        'GRANT USAGE ON SCHEMA "app_schema" TO "owner"',
        'GRANT CREATE ON SCHEMA "app_schema" TO "owner"',
        'GRANT USAGE ON SCHEMA "app_schema" TO "app"',
        'GRANT USAGE ON SCHEMA "app_schema" TO "Report 7"',
    ]


@pytest.fixture
def rds(account: Account) -> Iterator[Account]:
    """With RDS's role for tokens, which its master may give; the application enters with them."""
    account.server.execute("CREATE ROLE rds_iam")
    account.server.execute(f"GRANT rds_iam TO {account.master} WITH ADMIN OPTION")
    account.create_database()
    by_token(account)
    yield account
    account.server.execute(f"DROP OWNED BY {account.master}", database=account.database)
    account.server.execute("DROP ROLE rds_iam")


def by_token(account: Account) -> None:
    account.use(auth="iam", secret_id=None, user=account.owner)


def make_by_name(account: Account) -> list[str]:
    done = migrations.make_roles(account.master, used_by=[account.app, account.report])
    return [one.replace(f"_{account.suffix}", "") for one in done]


def test_roles_that_enter_with_tokens_have_no_password(rds: Account) -> None:
    """No secret is read but the master's; their rights are the same, and a second run does nothing."""
    for role in (rds.owner, rds.app, rds.report):
        rds.put(role, "none of theirs is read")
    assert make_by_name(rds) == [
        *('CREATE ROLE "owner" LOGIN', 'GRANT rds_iam TO "owner"'),
        *('CREATE ROLE "app" LOGIN', 'GRANT rds_iam TO "app"'),
        *('CREATE ROLE "Report 7" LOGIN', 'GRANT rds_iam TO "Report 7"'),
        *CREATED[3:],
    ]
    names = [rds.owner, rds.app, rds.report]
    stored = "SELECT count(*), count(rolpassword) FROM pg_authid WHERE rolname = ANY(%s)"
    assert rds.server.execute(stored, [names]) == [(3, 0)]
    assert make_by_name(rds) == []


def test_roles_go_over_to_tokens_and_back(rds: Account) -> None:
    """RDS takes no password of a role that has rds_iam, so it loses that where its password is refused."""
    rds.use()
    assert rds.make() == CREATED
    by_token(rds)
    assert make_by_name(rds) == [f'GRANT rds_iam TO "{role}"' for role in ("owner", "app", "Report 7")]
    rds.server.execute(f"ALTER ROLE {rds.app} PASSWORD NULL")
    rds.use()
    assert rds.make() == ['REVOKE rds_iam FROM "app"', 'ALTER ROLE "app" LOGIN PASSWORD']
    assert rds.gets_in(rds.app)


def test_a_server_that_takes_no_tokens_is_refused_by_the_settings_name(account: Account) -> None:
    """Before a role is made that nobody could enter as."""
    account.create_database()
    by_token(account)
    with pytest.raises(db.ConfigurationError, match=r"^DB_AUTH=iam: the server has no role rds_iam"):
        make_by_name(account)
    assert account.server.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [account.owner]) == []


def test_a_master_that_may_not_give_tokens_is_told_so(rds: Account) -> None:
    """With the statement that somebody else may run."""
    rds.server.execute(f"REVOKE rds_iam FROM {rds.master}")
    with pytest.raises(db.ConfigurationError, match=r"may not run 'GRANT rds_iam TO \"owner_\w+\"' .*ADMIN OPTION"):
        make_by_name(rds)
