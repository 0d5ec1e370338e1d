"""The orders application on a migrated database of the test's own, called as Lambda calls it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import db
from db.environment import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devkit.plugin import Database, MakeLambdaContext, PutSecret

collect_ignore = ["own_service"]  # its tests are for the copy of the repository that test_own_service makes

CLAIMS = {"tenant_id": "acme"}
LINE = {"sku": "BOOK-42", "quantity": 2, "unit_price_minor": 1250}
ORDER: dict[str, Any] = {"customer": "c-1", "currency": "EUR", "lines": [LINE]}


@dataclass(frozen=True)
class Answer:
    """An HTTP answer with its body read."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Shop:
    """The application: its handlers by name, and the API by method and path."""

    database: Database
    put_secret: Callable[[str, str, int], None]
    context: MakeLambdaContext

    def enter_as(self, role: str, *, port: int | None = None) -> None:
        """Start afresh as the functions do that use the secret of ``role``; ``port`` instead of the server's."""
        self.put_secret(role, f"orders/{role}", port or self.database.port)
        db.configure(
            db.Settings(secret_id=f"orders/{role}", connect_timeout_s=2, connect_wait_s=0, deadline_reserve_s=0.1)
        )

    def api(
        self, method: str, path: str, body: Any = None, *, claims: Any = CLAIMS, query: Any = None, key: Any = None
    ) -> Answer:
        """Call the API; ``body`` is sent as JSON unless it is a string already, ``key`` as the idempotency key."""
        from handlers.orders import api

        text = body if isinstance(body, str) or body is None else json.dumps(body)
        event = http_event(method, path, text, claims, query)
        event["headers"] |= {} if key is None else {"idempotency-key": key}
        answer = api.handler(event, self.context(remaining_s=10))
        flat = {name: str(value) for name, value in answer.get("headers", {}).items()}
        return Answer(answer["statusCode"], flat, json.loads(answer["body"]))

    def intake(self, *records: dict[str, Any]) -> list[str]:
        """Deliver SQS records; the ids of those that failed."""
        from handlers.orders import intake

        answer = intake.handler({"Records": list(records)}, self.context(remaining_s=10))
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def migrate(self, **event: Any) -> Any:
        from handlers import migrate

        return migrate.handler(event, self.context(remaining_s=30))


def http_event(method: str, path: str, body: str | None, claims: Any, query: Any) -> dict[str, Any]:
    """As much of an HTTP API event as the resolver reads."""
    authorizer = {"authorizer": {"jwt": {"claims": claims, "scopes": None}}} if claims is not None else {}
    event: dict[str, Any] = {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": method, "path": path}, "stage": "$default", **authorizer},
        "isBase64Encoded": False,
    }
    return event | ({"body": body} if body is not None else {}) | ({"queryStringParameters": query} if query else {})


def record(message_id: str, body: Any, tenant: str | None = "acme") -> dict[str, Any]:
    """An SQS record."""
    attribute = {"tenant_id": {"stringValue": tenant, "dataType": "String"}} if tenant is not None else {}
    text = body if isinstance(body, str) else json.dumps(body)
    return {
        "messageId": message_id,
        "body": text,
        "attributes": {},
        "messageAttributes": attribute,
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:orders",
    }


@pytest.fixture
def empty_shop(
    database: Database, secret: PutSecret, lambda_context: MakeLambdaContext, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    """Before the first migration, and with nobody entered."""
    monkeypatch.setenv("APP_ROLE", database.app)
    monkeypatch.setenv("REPORT_ROLE", database.owner)
    logins = {
        "app": (database.app, database.app_password),
        "owner": (database.owner, database.owner_password),
    }

    def put_secret(role: str, name: str, port: int) -> None:
        username, password = logins[role]
        place = {"engine": "postgres", "host": database.host, "port": port, "dbname": database.name}
        secret(name, place | {"username": username, "password": password})

    yield Shop(database, put_secret, lambda_context)
    db.dispose()
    process.DEFAULT._runtime = None


@pytest.fixture
def shop(empty_shop: Shop) -> Shop:
    """Migrated, and entered as the role app."""
    empty_shop.enter_as("owner")
    assert empty_shop.migrate()["after"] == "0003"
    empty_shop.enter_as("app")
    return empty_shop
