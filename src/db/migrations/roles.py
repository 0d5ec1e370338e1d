"""The roles of an application, made by a master that may be no superuser, as RDS's is not.

From their secrets, or, where they enter with IAM tokens, by their names. May run before each migration: what is as it
should be is left alone. A password that the server takes is such a thing, so that a rotation under way is not undone;
which is found by logging in with it, for nobody but a superuser may read what the server has stored. One connection is
open at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from sqlalchemy import exc, text

from db.credentials.choice import source_for
from db.environment.runtime import Runtime
from db.errors import ConfigurationError, Verdict, sqlstate, verdict
from db.wire.search_path import schemas
from db.work.database import holder_of

from .lock import locked_connection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

    from db.credentials.source import Credentials, Source
    from db.settings import Settings
    from db.work.database import Database

# Where a database that is not there yet is made from: every server and every RDS instance has it.
_MAINTENANCE = "postgres"
# A refused password is what is looked for, and no reason to wait long for another; but a server that is full may have
# to notice first that the connection before this one is closed.
_PATIENCE_S = 1.0
_INSUFFICIENT_PRIVILEGE = "42501"
_LONGEST_NAME = 63
_RESERVED = ("public", "none")
# Executed as they stand: a % in a name begins no parameter.
_AS_IT_STANDS = {"no_parameters": True}

_FOUND = text("SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname = ANY(:names)")
_DATABASE_RIGHT = text("SELECT has_database_privilege(:role, :name, :right)")
_SCHEMA_RIGHT = text("SELECT has_schema_privilege(:role, :name, :right)")

# RDS's: whoever has it enters with a token, and with no password any more.
# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.DBAccounts.html
_TOKENS = "rds_iam"
_IS_THERE = text("SELECT 1 FROM pg_roles WHERE rolname = :name")
_MEMBERS = text(
    "SELECT member.rolname FROM pg_auth_members JOIN pg_roles member ON member.oid = pg_auth_members.member "
    "JOIN pg_roles of ON of.oid = pg_auth_members.roleid WHERE of.rolname = :of AND member.rolname = ANY(:names)"
)


_NOTHING_TO_MAKE_FROM = "roles are made from their secrets: DB_SECRET_ID names none, and DB_AUTH is not iam"


class _Login:
    """A role by its secret: where ``settings`` find the server, and as whom its secret lets in."""

    def __init__(self, settings: Settings, *, like: Runtime) -> None:
        self.runtime = Runtime(dataclasses.replace(settings, connect_wait_s=_PATIENCE_S), clock=like.clock)
        source = source_for(settings, None, clock=like.clock)
        if source is None:
            raise ConfigurationError([_NOTHING_TO_MAKE_FROM])
        self._source: Source = source
        self.credentials: Credentials = source.current()
        _check_name(self.name, f"secret {settings.secret_id!r}: its username")

    @property
    def name(self) -> str:
        return self.credentials.username

    def gets_in(self) -> bool:
        """Whether the server takes the password: the current one, or what a rotation under way has staged."""
        try:
            with self.runtime.engine("unpooled").connect():
                return True
        except exc.OperationalError as error:
            if verdict(error) is not Verdict.REFETCH_CREDENTIALS:
                raise
            return False

    def renew(self) -> None:
        """Ask for the password past every cache, before it is set."""
        self.credentials = self._source.refresh(self.credentials)


def make_roles(master: str, *, used_by: Iterable[str] = (), database: Database | None = None) -> list[str]:
    """Make the role that owns the tables, by the secret in DB_SECRET_ID, and those of the secrets ``used_by``.

    ``master`` is the secret of a role that has CREATEROLE and owns the database, or has CREATEDB where there is none
    yet: RDS's master does. Each role may log in with its secret's password, and connect; the owner may create in the
    database and in its schema: the first of DB_SCHEMA that is there, or ``public``. What else a role may do is for the
    migrations to say. Server and database are those of the settings, or of the owner's secret.

    With DB_AUTH=iam there is no secret but the master's: the owner is DB_USER, and ``used_by`` are the other roles'
    names. They get no password, and ``rds_iam``, so that RDS takes their tokens. With ``database``, all settings are
    that one's.

    Returns what was done, without a password in it: the server is sent verifiers, so that its log has none either.
    Raises ConfigurationError where the master may not do what is missing, where a name is none that a role can have, or
    where the server has no ``rds_iam``; CredentialsError, DeadlineError, and SQLAlchemy's own errors.
    """
    holder = holder_of(database)
    with holder.named():
        return _make(holder.current(), master, used_by)


def _make(now: Runtime, master: str, used_by: Iterable[str]) -> list[str]:
    now.settings.engine_kind.require("roles", "make_roles")
    if now.settings.source == "iam":
        return _make_by_name(now, master, [str(now.settings.user), *used_by])
    if now.settings.source != "secret":
        raise ConfigurationError([_NOTHING_TO_MAKE_FROM])
    owner = _Login(now.settings, like=now)
    place = _place(now.settings, owner.credentials)
    others = [_Login(dataclasses.replace(place, secret_id=secret, user=None), like=now) for secret in used_by]
    roles = {login.name: login for login in (owner, *others)}
    as_master = dataclasses.replace(place, secret_id=master, user=None)
    done: list[str] = []
    with _locked(as_master, now, done) as conn:
        before = _logins(conn, roles, done)
        for name, login in roles.items():
            if name not in before:
                _set_password(conn, "CREATE", login, done)
        _grant_all(conn, now.settings, list(roles), done)
        conn.commit()
    if drifted := [login for name, login in roles.items() if name in before and not login.gets_in()]:
        with _locked(as_master, now, done) as conn:
            # With it, the server takes no password, whatever that is.
            for name in _members(conn, [login.name for login in drifted]):
                _run(conn, f"REVOKE {_TOKENS} FROM {_quoted(name)}", done)
            for login in drifted:
                login.renew()
                _set_password(conn, "ALTER", login, done)
            conn.commit()
    return done


def _make_by_name(now: Runtime, master: str, names: list[str]) -> list[str]:
    """The roles that enter with tokens, the owner first."""
    for name in names:
        _check_name(name, "a role that enters with tokens:")
    as_master = dataclasses.replace(now.settings, auth="secret", secret_id=master, user=None)
    done: list[str] = []
    with _locked(as_master, now, done) as conn:
        if conn.execute(_IS_THERE, {"name": _TOKENS}).one_or_none() is None:
            raise ConfigurationError(
                [f"DB_AUTH=iam: the server has no role {_TOKENS}, so it is none of RDS, and takes no tokens"]
            )
        before = _logins(conn, names, done)
        members = _members(conn, names)
        for name in dict.fromkeys(names):
            if name not in before:
                _run(conn, f"CREATE ROLE {_quoted(name)} LOGIN", done)
            if name not in members:
                _run(conn, f"GRANT {_TOKENS} TO {_quoted(name)}", done)
        _grant_all(conn, now.settings, names, done)
        conn.commit()
    return done


def _check_name(name: str, whose: str) -> None:
    """Raise ConfigurationError where no role is called ``name``. The server shortens a name that is too long."""
    if len(name.encode()) > _LONGEST_NAME or "\0" in name or name in _RESERVED or name.startswith("pg_"):
        problem = (
            f"{whose} {name!r} cannot be a role's name: PostgreSQL takes {_LONGEST_NAME} bytes at most, without NUL, "
            f"and neither {' nor '.join(_RESERVED)} nor what begins with pg_"
        )
        raise ConfigurationError([problem])


def _logins(conn: Connection, names: Iterable[str], done: list[str]) -> set[str]:
    """Those of ``names`` that are there. Each may log in then."""
    before: dict[str, bool] = {row.rolname: row.rolcanlogin for row in conn.execute(_FOUND, {"names": list(names)})}
    for name, may in before.items():
        if not may:
            _run(conn, f"ALTER ROLE {_quoted(name)} LOGIN", done)
    return set(before)


def _members(conn: Connection, names: list[str]) -> list[str]:
    """Those of ``names`` that enter with tokens."""
    return list(conn.execute(_MEMBERS, {"of": _TOKENS, "names": names}).scalars())


def _grant_all(conn: Connection, settings: Settings, names: list[str], done: list[str]) -> None:
    """What each needs before a migration gives it more; the first of ``names`` is the owner."""
    schema = _schema(conn, settings)
    for name in dict.fromkeys(names):
        _grant(conn, name, _OWNER if name == names[0] else _OTHERS, schema, done)


def _place(settings: Settings, credentials: Credentials) -> Settings:
    """``settings`` with the server and the database that the owner's secret names, where they name none."""
    return dataclasses.replace(
        settings,
        host=settings.host or credentials.host,
        port=settings.port or credentials.port,
        name=settings.name or credentials.database,
    )


@contextlib.contextmanager
def _locked(settings: Settings, like: Runtime, done: list[str]) -> Iterator[Connection]:
    """A connection to the database of ``settings``, which is made where it is not there."""
    runtime = Runtime(settings, clock=like.clock)
    with contextlib.ExitStack() as opened:
        try:
            conn = opened.enter_context(locked_connection(runtime))
        except exc.OperationalError as error:
            # No SQLSTATE tells a database that is missing from whatever else waiting cannot mend.
            if verdict(error) is not Verdict.GIVE_UP or not _create_database(settings, like, done):
                raise
            conn = opened.enter_context(locked_connection(runtime))
        yield conn


def _create_database(settings: Settings, like: Runtime, done: list[str]) -> bool:
    """Make the database of ``settings``; False where it is there."""
    beside = Runtime(dataclasses.replace(settings, name=_MAINTENANCE), clock=like.clock)
    engine = beside.engine("unpooled").execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        there = text("SELECT 1 FROM pg_database WHERE datname = :name")
        if conn.execute(there, {"name": settings.name}).one_or_none() is not None:
            return False
        _run(conn, f"CREATE DATABASE {_quoted(settings.name or '')}", done)
    return True


def _set_password(conn: Connection, verb: str, login: _Login, done: list[str]) -> None:
    encrypt = conn.connection.driver_connection.pgconn.encrypt_password  # type: ignore[union-attr] # psycopg's
    password = login.credentials.password.encode()
    verifier = encrypt(password, login.name.encode(), b"scram-sha-256").decode()
    _run(conn, f"{verb} ROLE {_quoted(login.name)} LOGIN PASSWORD", done, f" '{verifier}'")


def _schema(conn: Connection, settings: Settings) -> str | None:
    """The schema that the owner's tables go to; None where it is not there yet, for a migration to make."""
    named = next((one for one in schemas(settings.schema or "public") if one != "$user"), "public")
    found = conn.execute(text("SELECT nspname FROM pg_namespace WHERE nspname = :named"), {"named": named})
    return found.scalar_one_or_none()


@dataclasses.dataclass(frozen=True)
class _Rights:
    """What a role needs before it can be given anything in a database, and in its schema."""

    of_database: tuple[str, ...]
    of_schema: tuple[str, ...]


_OWNER = _Rights(("CONNECT", "CREATE"), ("USAGE", "CREATE"))
_OTHERS = _Rights(("CONNECT",), ("USAGE",))


def _grant(conn: Connection, role: str, needed: _Rights, schema: str | None, done: list[str]) -> None:
    database = conn.execute(text("SELECT current_database()")).scalar_one()
    rights = [("DATABASE", database, right, _DATABASE_RIGHT) for right in needed.of_database]
    if schema is not None:
        rights += [("SCHEMA", schema, right, _SCHEMA_RIGHT) for right in needed.of_schema]
    for kind, name, right, has in rights:
        asked = {"role": role, "name": name, "right": right}
        if conn.execute(has, asked).scalar_one():
            continue
        statement = f"GRANT {right} ON {kind} {_quoted(name)} TO {_quoted(role)}"
        _run(conn, statement, done)
        if not conn.execute(has, asked).scalar_one():
            # The server takes a grant of what one may not grant, and warns.
            raise _refused(conn, statement, "nothing was granted")


def _run(conn: Connection, statement: str, done: list[str], secret: str = "") -> None:
    try:
        conn.exec_driver_sql(statement + secret, execution_options=_AS_IT_STANDS)
    except exc.DBAPIError as error:
        # SQLAlchemy's error shows the statement, and this one's reason ends up in CloudFormation's events.
        code, problem = sqlstate(error), error.orig
    else:
        done.append(statement)
        return
    if code == _INSUFFICIENT_PRIVILEGE:
        raise _refused(conn, statement, str(problem).partition("\n")[0])
    if isinstance(problem, Exception):
        # The lines after the first one show the statement as well, with the secret in it.
        raise type(problem)(str(problem).partition("\n")[0])
    raise AssertionError(statement)


def _refused(conn: Connection, statement: str, said: str) -> ConfigurationError:
    master: Any = conn.connection.driver_connection
    problem = (
        f"the master {master.info.user!r} may not run {statement!r} ({said}): it needs CREATEROLE, ADMIN OPTION of "
        "roles that others have made, and to own the database or have CREATEDB; or somebody who may runs it once"
    )
    return ConfigurationError([problem])


def _quoted(name: str) -> str:
    # Not SQLAlchemy's way, which doubles each % for the driver to halve: these are executed as they stand.
    return '"' + name.replace('"', '""') + '"'
