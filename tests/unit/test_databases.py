"""``db.Database``: what it is called, where its settings come from, and that it has all that the module has."""

from __future__ import annotations

import gc
import inspect
import logging
import subprocess
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_overloads

import pytest
from sqlalchemy import text

import db
from db import aio
from db.aio.database import AsyncDatabase
from db.environment import event_loop, process
from db.work.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

SRC = Path(__file__).parents[2] / "src"
# What is of the process or the invocation, whatever the databases, or of no database at all.
SHARED = {"Database", "Settings", "Verdict", "carry", "check", "invocation", "scope", "sqlstate", "verdict"}
ERRORS = {name for name in db.__all__ if name.endswith("Error")}
CALLS = sorted(set(db.__all__) - SHARED - ERRORS)


@pytest.fixture(autouse=True)
def default(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On SQLite, by the environment."""
    monkeypatch.setattr(process.DEFAULT, "_runtime", None)
    monkeypatch.setenv("DB_URL", "sqlite://")
    yield
    db.dispose()


def typed(thing: Any) -> list[dict[str, str]]:
    """All annotations, of each overload and of itself."""
    return [inspect.get_annotations(one) for one in (*get_overloads(thing), inspect.unwrap(thing))]


def parameters(thing: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(thing).parameters.values() if p.name != "self"]


def test_it_has_every_call_that_concerns_a_database() -> None:
    """And nothing else but its name and the way to make one."""
    assert {name for name in vars(Database) if not name.startswith("_")} == {*CALLS, "aio", "from_env", "name"}
    assert {name for name in vars(AsyncDatabase) if not name.startswith("_")} == set(aio.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_a_method_is_called_as_the_function_is(name: str) -> None:
    """Names, kinds, defaults and types of all parameters, overload by overload; it says where to read on."""
    function, method = getattr(db, name), getattr(Database, name)
    assert parameters(method) == parameters(function)
    assert typed(method) == typed(function)
    assert (inspect.getdoc(method) or "").startswith(f"``db.{name}``, ")


@pytest.mark.parametrize("name", aio.__all__)
def test_a_coroutine_method_is_called_as_the_function_is(name: str) -> None:
    """Likewise."""
    function, method = getattr(aio, name), getattr(AsyncDatabase, name)
    assert parameters(method) == parameters(function)
    assert typed(method) == typed(function)
    assert (inspect.getdoc(method) or "").startswith(f"``db.aio.{name}``, ")


def test_nothing_of_it_is_loaded_before_it_is_asked_for() -> None:
    """Most functions have one database; and whoever has two pays for no event loop."""
    program = f"""
import sys
sys.path.insert(0, {str(SRC)!r})
import db
print("db.work.database" in sys.modules, "db.settings.prefixes" in sys.modules)
from db import Database
Database.from_env(prefix="AUDIT_DB_")
print("db.aio" in sys.modules, "greenlet" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"] * 4


def test_its_settings_are_those_under_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read when it is first used, and anew by ``configure``; none is the default database's, nor the other way."""
    audit = db.Database.from_env(prefix="AUDIT_DB_")
    monkeypatch.setenv("AUDIT_DB_URL", "sqlite://")
    monkeypatch.setenv("AUDIT_DB_POOL", "static")
    assert (audit.name, audit.status()["database"], audit.status()["pool"]) == ("audit", "audit", "static")
    assert (db.status()["pool"], "database" in db.status()) == ("queue", False)
    monkeypatch.setenv("AUDIT_DB_POOL", "null")
    audit.configure()
    assert audit.status()["pool"] == "null"
    audit.configure(db.Settings(url="sqlite://"))
    assert (audit.status()["database"], audit.status()["pool"]) == ("audit", "queue")


def test_one_for_tests_is_made_from_settings() -> None:
    """And by them again where ``configure`` is given none."""
    audit = db.Database(db.Settings(url="sqlite://", pool="static"), name="audit")
    audit.configure(db.Settings(url="sqlite://"))
    audit.configure()
    assert (audit.status()["database"], audit.status()["pool"]) == ("audit", "static")
    with pytest.raises(TypeError, match=r"takes db.Settings.*db.Database.from_env\(prefix=…\)"):
        db.Database("AUDIT_DB_")  # type: ignore[arg-type]
    with pytest.raises(db.ConfigurationError, match="Init connects that one alone"):
        audit.configure(db.Settings(url="sqlite://", warm="init"))


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("DB_", "is the default database's"),
        ("DB_AUDIT_", "is AUDIT_DB_ meant"),
        ("audit_", "upper case"),
        ("AUDIT", "an underscore at its end"),
        ("", "upper case"),
        ("_", "upper case"),
        ("AWS_AUDIT_", "AWS's own"),
        ("PGAUDIT_", "libpq's own"),
        (None, "is a NoneType"),
    ],
)
def test_a_prefix_that_would_swallow_or_collide_is_refused(prefix: Any, why: str) -> None:
    """Where the database is made, whatever its name."""
    with pytest.raises(db.ConfigurationError, match=why):
        db.Database.from_env(prefix=prefix, name="audit")


@pytest.mark.parametrize("name", ["db", "", "Audit", "audit log", "a" * 31])
def test_a_name_that_no_line_could_bear_is_refused(name: str) -> None:
    """It stands before calls in messages, and in metrics."""
    with pytest.raises(db.ConfigurationError, match="is no name of a further database"):
        db.Database(db.Settings(url="sqlite://"), name=name)


def test_what_is_wrong_with_its_settings_is_said_in_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values, contradictions, slips in names and in their case: all at once, and none of ``DB_``."""
    for name, value in {
        "AUDIT_DB_POOL_SIZE": "0",
        "AUDIT_DB_PORT": "x",
        "AUDIT_DB_HOTS": "h",
        "audit_db_host": "h",
        "AUDIT_DB_SHUTDOWN_HOOK": "off",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(db.ConfigurationError) as raised:
        db.Database.from_env(prefix="AUDIT_DB_").engine()
    assert raised.value.database == "audit"
    assert str(raised.value).startswith("database 'audit': ")
    ignore = "(if it is another program's, name it in AUDIT_DB_IGNORE)"
    by_iam = "AUDIT_DB_AUTH=iam with AUDIT_DB_HOST, AUDIT_DB_NAME and AUDIT_DB_USER"
    assert list(raised.value.problems) == [
        "AUDIT_DB_SHUTDOWN_HOOK: one hook serves all databases, by the default one's setting",
        f"AUDIT_DB_HOTS is not a setting: is AUDIT_DB_HOST meant? {ignore}",
        f"audit_db_host is not a setting: names are in upper case: is AUDIT_DB_HOST meant? {ignore}",
        "AUDIT_DB_PORT is not a whole number: 'x'",
        "AUDIT_DB_POOL_SIZE is 0, below its floor of 1",
        f"no database: set AUDIT_DB_SECRET_ID, AUDIT_DB_URL, or {by_iam}",
    ]


def test_names_under_one_prefix_are_nobody_elses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the default's, which knows SUPABASE_DB_URL for a slip, nor those of a shorter prefix."""
    shop, audit = db.Database.from_env(prefix="SUPABASE_"), db.Database.from_env(prefix="SUPABASE_DB_")
    for name in ("SUPABASE_URL", "SUPABASE_DB_URL"):
        monkeypatch.setenv(name, "sqlite://")
    monkeypatch.delenv("DB_URL")
    with pytest.raises(db.ConfigurationError) as raised:
        db.engine()
    assert [problem for problem in raised.value.problems if "SUPABASE" in problem] == []
    for name in ("SUPABASE_DB_ANYTHING", "SUPABASE_DB_IGNORED"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SUPABASE_DB_IGNORE", "SUPABASE_DB_IGNORED")
    assert (shop.status()["database"], audit.status()["database"]) == ("supabase", "supabase")
    (line,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert vars(line)["variables"] == ["SUPABASE_DB_ANYTHING"]
    assert "begin with SUPABASE_DB_" in line.getMessage()


def test_an_error_names_the_database_that_it_is_about() -> None:
    """The innermost one, in the names of its own settings and calls; nothing is added to the default one's."""
    audit = db.Database(db.Settings(url="sqlite://"), name="audit")
    with pytest.raises(db.ConfigurationError) as raised, db.begin(), audit.begin(), audit.begin():
        pass
    assert raised.value.database == "audit"
    assert str(raised.value).startswith("database 'audit': a unit of work that writes, inside of another")
    assert "audit.session(tx=tx)" in str(raised.value)
    with pytest.raises(db.ConfigurationError) as raised, audit.begin(), db.begin(), db.begin():
        pass
    assert raised.value.database is None
    assert str(raised.value).startswith("a unit of work that writes")


def test_a_name_or_a_key_that_is_none_is_not_of_the_block_around_it() -> None:
    """It is of the call that was given it, or of no database."""
    audit = db.Database(db.Settings(url="sqlite://"), name="audit")
    with pytest.raises(db.InvalidKeyError) as key, audit.begin():
        db.once("")
    with pytest.raises(db.InvalidKeyError) as missing, audit.begin():
        db.idempotent(key="id")(lambda *_: None)({})
    with pytest.raises(db.TenantError) as tenant, audit.begin(), db.scope(tenant=""):
        pass
    assert [raised.value.database for raised in (key, missing, tenant)] == [None, None, None]
    with pytest.raises(db.InvalidKeyError, match=r"^database 'audit': a key is"), db.begin():
        audit.once("")


def test_an_engine_with_no_connection_left_names_its_own_database() -> None:
    """Whatever block is around it, or none; after dispose() as well."""
    audit = db.Database(db.Settings(url="sqlite://"), name="audit")
    audit.dispose()
    for _ in range(2):
        with audit.engine().connect(), pytest.raises(db.ConfigurationError, match=r"^database 'audit': this very"):
            audit.engine().connect()
        audit.dispose()
    with (
        audit.begin(),
        db.engine().connect(),
        pytest.raises(db.ConfigurationError, match=r"^this very") as raised,
    ):
        db.engine().connect()
    assert raised.value.database is None


def test_what_is_taken_for_something_else_is_said_of_its_own_call() -> None:
    """As the module's calls say it of theirs."""
    audit = db.Database(db.Settings(url="sqlite://"), name="audit")
    with pytest.warns(RuntimeWarning, match=r"audit\.begin\(\) was never entered"):
        audit.begin()
    with pytest.raises(TypeError, match=r"as in Database\.begin\(tenant=…\)"):
        audit.begin("acme")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"audit\.run takes a function"):
        audit.run(1)  # type: ignore[call-overload]


def test_it_is_collected_with_its_last_user(caplog: pytest.LogCaptureFixture) -> None:
    """What it kept is closed; whoever is at work on it keeps it."""
    gc.collect()  # those of other tests
    others = process.holders()  # FastAPI remembers some that were dependencies
    caplog.clear()
    caplog.set_level(logging.INFO)
    with db.Database(db.Settings(url="sqlite://"), name="audit").begin() as tx:
        gc.collect()
        tx.execute(text("SELECT 1"))
    audit = db.Database(db.Settings(url="sqlite://"), name="audit")
    with audit.read() as conn:
        conn.execute(text("SELECT 1"))
    (holder,) = (weakref.ref(one) for one in process.holders() if one not in others)
    del audit
    assert holder() is None
    events = [record.connection_event for record in caplog.records if hasattr(record, "connection_event")]
    assert events == ["connect", "close", "dispose"] * 2


def test_rows_that_are_none_are_refused_by_the_call_that_was_made() -> None:
    """Of that database, and of ``aio``."""
    audit = db.Database(db.Settings(url="sqlite://"), name="audit")
    with pytest.raises(TypeError, match=r"^rows of audit\.copy_rows "):
        audit.copy_rows("orders", "rows")
    with pytest.raises(TypeError, match=r"^rows of audit\.aio\.copy_rows "):
        event_loop.run(audit.aio.copy_rows("orders", "rows"))
    event_loop.close()
