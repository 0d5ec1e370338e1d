"""What ``db.check`` says of what a server has said, and of settings: each rule, without a server."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import db
from db.migrations.preflight import configured, finding, limits, objects, server
from db.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.migrations.preflight import Finding

URL = "postgresql://app:never-shown@h/shop"
SAID: dict[str, Any] = {
    "version": "18.1",
    "number": 180001,
    "is_replica": False,
    "is_read_only": False,
    "login": "app",
    "logged_in_as": "app",
    "superuser": None,
    "of_role": -1,
    "of_database": -1,
    "of_server": 100,
    "reserved": 3,
    "taken": 7,
    "idle_session_ms": 0,
    "tables": {"are_there": 2, "may_use": 2, "of_tenants": 1},
    "now": 1_000_000.0,
    "password_until": None,
    "closed_sequences": [],
}


def password(facts: server.Facts) -> Finding:
    return server.password(facts, Settings(url=URL))


def connections(facts: server.Facts) -> Finding:
    return limits.connections(facts, Settings(url=URL, pool_size=4))


@pytest.mark.parametrize(
    ("settings", "said", "words"),
    [
        ({}, {}, "environments that are frozen keep theirs"),
        ({}, {"taken": 90}, "ALTER ROLE app SET idle_session_timeout = '10s'"),
        ({}, {"idle_session_ms": 10_000}, None),
        ({}, {"idle_session_ms": 10_000, "taken": 90}, None),
        ({}, {"idle_session_ms": None}, None),  # PostgreSQL 13
        ({"pool": "null"}, {"taken": 90}, None),
        ({"function_name": None}, {}, None),
    ],
)
def test_what_keeps_connections_over_a_freeze_is_said(
    settings: dict[str, Any], said: dict[str, Any], words: str | None
) -> None:
    """It is no fault as long as there are enough of them."""
    found = limits.connections(
        server.Facts(SAID | said, 0, None), Settings(**{"url": URL, "function_name": "orders"} | settings)
    )
    spoken_of = f"{found.seen} {found.remedy}"
    assert (words or "frozen") in spoken_of or words is None
    assert ("idle_session_timeout" in spoken_of) == (words is not None)
    assert found.level == ("warning" if said.get("taken") else "ok")


@pytest.mark.parametrize(
    ("rule", "said", "skew_s", "level", "words"),
    [
        (server.version, {}, 0, "ok", "PostgreSQL 18.1"),
        (server.version, {"number": 160004, "version": "16.4"}, 0, "ok", "a whole transaction is not"),
        (server.version, {"number": 130011, "version": "13.11"}, 0, "warning", "maintained no more"),
        (server.clock, {}, 4.0, "ok", "within 5 s"),
        (server.clock, {}, -90.0, "warning", "-90.0 s"),
        (password, {}, 0, "ok", "no end"),
        (password, {"password_until": 1_000_000 + 90 * 86_400}, 0, "ok", "ends in 90 days"),
        (password, {"password_until": 1_000_000 + 9 * 86_400}, 0, "warning", "ends in 9 days"),
        (server.writes, {"is_replica": True}, 0, "error", "is a replica"),
        (server.writes, {"is_read_only": True}, 0, "warning", "begin read-only"),
        (connections, {}, 0, "ok", "97 (max_connections less 3 reserved), enough for 24 environments of 4"),
        (connections, {"of_role": 9}, 0, "ok", "9 (CONNECTION LIMIT of app), enough for 2 environments"),
        (connections, {"of_database": 3}, 0, "error", "this process alone may ask for 4"),
        (connections, {"taken": 90}, 0, "warning", "90 are open"),
        (objects.privileges, {"superuser": "app"}, 0, "warning", "app is a superuser"),
        (objects.privileges, {"tables": {"are_there": 0, "may_use": 0}}, 0, "not applicable", "no table yet"),
    ],
)
def test_each_rule_has_a_word_for_what_the_server_says(
    rule: Callable[[server.Facts], Finding], said: dict[str, Any], skew_s: float, level: str, words: str
) -> None:
    """That all is well among them."""
    found = rule(server.Facts(SAID | said, skew_s, None))
    assert (found.level, words in found.seen) == (level, True), found.seen
    assert (found.remedy is not None) == (level in {"warning", "error"})


def test_a_token_does_not_end_with_the_roles_password() -> None:
    """VALID UNTIL is asked by who compares passwords, and nobody else."""
    by_token = Settings(host="h", name="shop", user="app", auth="iam")
    found = server.password(server.Facts(SAID | {"password_until": 1.0}, 0, None), by_token)
    assert found.level == "not applicable"


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        ({}, {}),
        ({"pool_size": 3, "max_overflow": 2}, {"pool size": "up to 5 connections"}),
        ({"pool_pre_ping": False}, {"liveness": "DB_POOL_PRE_PING is off"}),
        ({"pool_idle_s": 900.0}, {"liveness": "a NAT gateway forgets them"}),
        ({"shutdown_hook": False}, {"end": "nobody closes"}),
        ({"pool": "null", "shutdown_hook": False, "pool_pre_ping": False}, {}),
    ],
)
def test_a_pool_that_does_not_fit_a_function_is_named(settings: dict[str, Any], faults: dict[str, str]) -> None:
    """In Lambda; a process that lives may have a pool as it likes."""
    found = list(configured.pool(Settings(url=URL, function_name="orders", **settings)))
    assert [one.subject for one in found] == ["pool size", "liveness", "end"]
    seen = {one.subject: one.seen for one in found if one.level == "warning"}
    assert seen.keys() == faults.keys()
    assert all(faults[subject] in said for subject, said in seen.items())


@pytest.mark.parametrize(
    ("settings", "threshold", "level"),
    [
        ({"proxy": "pgbouncer"}, None, "ok"),
        ({"proxy": "pgbouncer"}, 5, "warning"),
        ({"proxy": "pgbouncer", "prepare": 5}, 5, "ok"),
        ({"proxy": "none", "prepare": 5}, 5, "not applicable"),
    ],
)
def test_names_behind_a_proxy_are_named_where_nobody_asked_for_them(
    settings: dict[str, Any], threshold: int | None, level: str
) -> None:
    """DB_PREPARE is meant, and refused with RDS Proxy before anything is opened; the driver's own habit is not."""
    driver = SimpleNamespace(info=SimpleNamespace(backend_pid=7), prepare_threshold=threshold)
    found = list(server.proxy(server.Facts(SAID | {"process": 8}, 0, driver), Settings(url=URL, **settings)))
    assert {one.subject: one.level for one in found}["prepared statements"] == level


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, None),
        ({"function_name": "orders"}, None),
        ({"echo": "on"}, None),
        ({"function_name": "orders", "echo": "on", "echo_pool": "debug"}, "DB_ECHO and DB_ECHO_POOL"),
        ({"function_name": "orders", "hide_parameters": False}, "values of rows"),
    ],
)
def test_a_log_that_says_too_much_is_named(settings: dict[str, Any], words: str | None) -> None:
    """Where each line of it is paid for, and kept."""
    found = configured.log(Settings(url=URL, **settings))
    assert (found.level == "warning", (words or "echo") in found.seen) == (words is not None, True)


def test_where_a_setting_comes_from_is_said_and_its_value_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment, the URL, the secret, code, or the default."""
    environ = {"DB_URL": URL, "DB_POOL_SIZE": "2"}
    of_url = configured.origins(Settings(url=URL, pool_size=2, schema="shop"), environ)
    assert {name: of_url[name] for name in ("DB_URL", "DB_POOL_SIZE", "DB_HOST", "DB_PORT", "DB_SCHEMA")} == {
        "DB_URL": "the environment",
        "DB_POOL_SIZE": "the environment",
        "DB_HOST": "the URL",
        "DB_PORT": "default",
        "DB_SCHEMA": "code",
    }
    assert "never-shown" not in str(of_url)
    assert configured.origins(Settings(secret_id="shop"), {"DB_SECRET_ID": "shop"})["DB_HOST"] == "the secret"


def test_names_that_are_none_and_settings_that_cannot_be_read_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is a warning, as another program may mean it; each of the second is an error of its own."""
    monkeypatch.setattr(db.environment.process.DEFAULT, "_runtime", None)
    monkeypatch.setenv("DB_URL", "sqlite://")
    monkeypatch.setenv("DB_ZZTOP", "1")
    report = db.check()
    assert (report.status, "DB_ZZTOP" in str(report)) == (1, True)
    subjects = {one.subject for one in report.findings}
    monkeypatch.setenv("DB_POOL_SIZE", "many")
    monkeypatch.setenv("DB_POOL_IDLE_S", "5m")
    report = db.check()
    assert (report.status, [one.level for one in report.findings].count("error")) == (2, 2)
    assert {one.subject for one in report.findings} >= subjects


@pytest.mark.parametrize("form", ["sqlite:///{}", "sqlite:///file:{}?uri=true", "sqlite:///{}?timeout=3"])
def test_a_look_at_a_file_makes_none_and_changes_none(form: str, tmp_path: Path) -> None:
    """A database of SQLite that is not there is a finding; one that is there stays as it is, with nothing beside it."""
    path = tmp_path / "a shop?.db" if "uri" not in form else tmp_path / "shop.db"
    other = db.Database(Settings(url=form.format(str(path).replace("?", "%3F"))), name="other")
    found = {one.subject: one for one in db.check(other).findings}
    assert (found["connect"].level, "no such file" in found["connect"].seen) == ("error", True)
    assert list(tmp_path.iterdir()) == []
    for mode, beside in (("DELETE", False), ("WAL", False), ("WAL", True)):
        with contextlib.closing(sqlite3.connect(path)) as kept:
            kept.executescript(f"PRAGMA journal_mode = {mode}; CREATE TABLE IF NOT EXISTS db_once (n); VACUUM")
            if beside:
                kept.execute("INSERT INTO db_once VALUES (1)")
                kept.commit()
            else:
                kept.close()
            before = {one.name: one.read_bytes() for one in tmp_path.iterdir() if not one.name.endswith("-shm")}
            found = {one.subject: one for one in db.check(other).findings}
            assert (found["connect"].level, found["once"].level) == ("ok", "ok")
            assert before == {one.name: one.read_bytes() for one in tmp_path.iterdir() if not one.name.endswith("-shm")}


def test_a_file_that_opens_and_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    """As one does that another connection has locked: nothing is raised for what a look finds."""
    path = tmp_path / "shop.db"
    other = db.Database(Settings(url=f"sqlite:///{path}?timeout=0"), name="other")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("CREATE TABLE db_once (n)")
        writer.execute("BEGIN EXCLUSIVE")
        report = db.check(other)
    found = {one.subject: one for one in report.findings}
    assert (found["once"].level, found["once"].seen) == ("error", "55P03: database is locked")
    assert (report.status, len(found)) == (2, len(report.findings))


def test_a_file_that_a_writer_has_left_half_written_is_a_finding(tmp_path: Path) -> None:
    """It is rolled back by who may write: the next writer, and not a check."""
    path, left = tmp_path / "shop.db", tmp_path / "left.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.executescript("CREATE TABLE db_once (n); INSERT INTO db_once VALUES (zeroblob(100000))")
        writer.executescript("PRAGMA cache_size = 1; BEGIN; UPDATE db_once SET n = randomblob(100000)")
        for suffix in ("-journal", ""):
            Path(f"{left}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    report = db.check(db.Database(Settings(url=f"sqlite:///{left}"), name="other"))
    assert {one.subject: one.level for one in report.findings}["once"] == "warning"
    assert "a log beside it" in str(report)
    assert Path(f"{left}-journal").exists()


def test_what_is_no_database_is_refused() -> None:
    """Settings, say: they are those of the database that ``db.configure`` or ``db.Database`` has made of them."""
    with pytest.raises(TypeError, match=r"a db\.Database is asked for here, and Settings was given"):
        db.check(Settings(url=URL))  # type: ignore[arg-type]


def test_the_worst_finding_is_the_status() -> None:
    """What does not apply is no fault."""
    one = finding.not_applicable("once", "no table")
    two = finding.warning("clock", "late", "Set it.", "run/aurora/#tokens")
    three = finding.error("writes", "none", "Name the writer.", "run/aurora/")
    assert [
        finding.Report(database="db", settings={}, findings=found).status
        for found in ((), (one,), (one, two), (three, two))
    ] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    "settings", [{"secret_id": "orders/app"}, {"auth": "iam", "host": "h", "name": "shop", "user": "app"}]
)
def test_a_process_that_aws_is_not_set_up_for_has_no_credentials(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a laptop: its profile may be another's. It is a finding, and no error of botocore's."""
    monkeypatch.setenv("AWS_PROFILE", "nobody's")
    report = db.check(db.Database(Settings(**settings), name="audit"))
    (found,) = [one for one in report.findings if one.level == "error"]
    assert found.subject == "credentials"
    assert "ProfileNotFound: The config profile (nobody's) could not be found" in found.seen
