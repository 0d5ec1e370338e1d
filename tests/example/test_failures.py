"""What callers are told when the database, the secret or the settings are not there."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import db
from db.environment import process
from handlers.orders import api, report

from .conftest import ORDER, Shop, http_event, record

if TYPE_CHECKING:
    from devkit.servers.aws import LocalAws
    from devkit.servers.postgres import Postgres

CLOSED_PORT = 1


@pytest.fixture
def down(shop: Shop) -> Shop:
    """The application, with a database that refuses connections, and no patience."""
    shop.enter_as("app", port=CLOSED_PORT)
    return shop


def test_the_api_says_when_to_come_back(down: Shop) -> None:
    """503 with Retry-After and no trace, to a read as to a write."""
    for answer in (down.api("GET", "/orders"), down.api("POST", "/orders", ORDER)):
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert answer.body["reasons"] == ["the database cannot be reached now; nothing was done"]


def test_records_go_back_to_the_queue(down: Shop) -> None:
    """One by one, so that none is lost and none is taken for poisoned by an exception."""
    body = ORDER | {"id": "01936f2e-8c00-7a10-8b2d-3f5a9c1e0001"}
    assert down.intake(record("1", body), record("2", "not json")) == ["1", "2"]


def test_the_report_fails_so_that_lambda_tries_it_again(down: Shop) -> None:
    """An asynchronous invocation has no caller to tell."""
    with pytest.raises(Exception, match=r"[Cc]onnection refused|failed"):
        report.handler({"time": "2026-11-22T02:00:00Z"}, down.context(remaining_s=5))


def test_settings_that_are_wrong_are_all_logged_and_none_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns that it is not his fault; the log, everything that has to be mended."""
    db.dispose()
    monkeypatch.setattr(process.DEFAULT, "_runtime", None)
    monkeypatch.setenv("DB_POOL", "big")
    monkeypatch.setenv("DB_PORT", "five")
    answer = shop.api("GET", "/orders")
    assert (answer.status, answer.body["reasons"]) == (500, ["something is wrong on this side; it has been logged"])
    logged = [str(r.exc_info[1]) for r in caplog.records if r.exc_info and r.levelno == logging.ERROR]
    assert all(name in logged[0] for name in ("DB_POOL", "DB_PORT", "DB_SECRET_ID"))


def test_a_missing_secret_is_named_in_the_log_alone(
    shop: Shop, local_aws: LocalAws, caplog: pytest.LogCaptureFixture
) -> None:
    """500, since no waiting helps."""
    db.configure(db.Settings(secret_id="orders/nowhere"))
    answer = shop.api("GET", "/orders")
    assert answer.status == 500
    assert "nowhere" not in json.dumps(answer.body)
    assert any(r.exc_info and "orders/nowhere" in str(r.exc_info[1]) for r in caplog.records)


def test_a_caller_without_time_left_is_told_to_come_back(shop: Shop) -> None:
    """Nothing is sent that could not be answered for."""
    event = http_event("GET", "/orders", None, {"tenant_id": "acme"}, None)
    answer: Any = api.handler(event, shop.context(remaining_s=0.05))
    assert answer["statusCode"] == 503
    assert db.status()["totals"]["connects"] == 0


def test_a_statement_that_outlasts_the_invocation_is_answered_for(shop: Shop, postgres: Postgres) -> None:
    """Here it waits for a lock; the server stops it while there is still time to say so."""
    login = {"host": postgres.host, "port": postgres.port, "user": postgres.superuser, "password": postgres.password}
    event = http_event("GET", "/orders", None, {"tenant_id": "acme"}, None)
    with psycopg.connect(**login, dbname=shop.database.name) as other:  # type: ignore[arg-type]  # strings all the same
        other.execute("LOCK TABLE orders")
        answer: Any = api.handler(event, shop.context(remaining_s=1.5))
    assert answer["statusCode"] == 503
    assert json.loads(answer["body"])["reasons"] == ["it took too long and was stopped; nothing was done"]
