"""The orders API: what callers may do, and what they are told when they may not."""

from __future__ import annotations

import json
import uuid
from typing import Any

import boto3
import pytest
from moto import mock_aws

import db
from db.settings import Settings
from devkit.plugin import Database, MakeLambdaContext
from handlers.orders import api

from .conftest import LINE, ORDER, Shop, http_event


def test_an_order_is_created_and_read_back(shop: Shop) -> None:
    """With its lines, its total, and where to find it."""
    created = shop.api("POST", "/orders", ORDER)
    assert (created.status, created.body["total_minor"], created.body["status"]) == (201, 2500, "pending")
    found = shop.api("GET", created.headers["Location"])
    assert found.body == created.body | {"lines": [LINE]}


def test_a_request_with_a_key_makes_one_order(shop: Shop) -> None:
    """However often it comes, it is answered as it was the first time, and says so."""
    first, second = (shop.api("POST", "/orders", ORDER, key="7f-1") for _ in range(2))
    assert (first.status, second.status, second.body) == (201, 201, first.body)
    assert second.headers["Location"] == first.headers["Location"]
    assert ["Idempotency-Replayed" in answer.headers for answer in (first, second)] == [False, True]
    assert [order["id"] for order in shop.api("GET", "/orders").body["orders"]] == [first.body["id"]]


def test_a_key_is_for_one_order_of_one_tenant(shop: Shop) -> None:
    """Another order under it is refused; another tenant's is its own; one that failed leaves the key free."""
    assert shop.api("POST", "/orders", ORDER | {"lines": []}, key="k").status == 400
    assert shop.api("POST", "/orders", ORDER, key="k").status == 201
    other = shop.api("POST", "/orders", ORDER | {"customer": "c-2"}, key="k")
    assert (other.status, other.body["reasons"]) == (422, ["another order was sent with this idempotency-key"])
    foreign = shop.api("POST", "/orders", ORDER | {"customer": "c-2"}, key="k", claims={"tenant_id": "globex"})
    assert (foreign.status, "Idempotency-Replayed" in foreign.headers) == (201, False)


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 201, "\u00e9", "\ud800", "a\x00"])
def test_a_bad_key_reaches_no_database(key: str, shop: Shop) -> None:
    """Nor does it make an order that could not be asked for again."""
    assert shop.api("POST", "/orders", ORDER, key=key).status == 400
    assert db.status()["totals"]["connects"] == 0


def test_pages_walk_through_all_orders_once(shop: Shop) -> None:
    """Newest first, also while new ones arrive."""
    made = [shop.api("POST", "/orders", ORDER).body["id"] for _ in range(5)]
    seen: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        page = shop.api("GET", "/orders", query=query).body
        seen += [order["id"] for order in page["orders"]]
        shop.api("POST", "/orders", ORDER)
        if page["next"] is None:
            break
        query = {"limit": "2", "after": page["next"]}
    assert seen == sorted(made, reverse=True)


def test_of_two_changes_from_one_version_one_wins(shop: Shop) -> None:
    """The other is told which version it is at now."""
    path = shop.api("POST", "/orders", ORDER).headers["Location"]
    first = shop.api("PATCH", path, {"status": "paid", "version": 1})
    second = shop.api("PATCH", path, {"status": "cancelled", "version": 1})
    assert (first.status, first.body["version"]) == (200, 2)
    assert (second.status, second.body["reasons"]) == (409, ["the order is at version 2, not 1: read it again"])


def test_another_tenants_order_does_not_exist(shop: Shop) -> None:
    """Not to be read, listed or changed; not even its existence shows."""
    path = shop.api("POST", "/orders", ORDER).headers["Location"]
    foreign = {"tenant_id": "globex"}
    assert shop.api("GET", path, claims=foreign).status == 404
    assert shop.api("PATCH", path, {"status": "paid", "version": 1}, claims=foreign).status == 404
    assert shop.api("GET", "/orders", claims=foreign).body["orders"] == []
    assert shop.api("GET", path).body["version"] == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{", 400),
        ("NaN", 400),
        ("[" * 30_000, 400),
        ('"' + "x" * 70_000 + '"', 413),
        (ORDER | {"tenant_id": "globex"}, 400),
        (ORDER | {"customer": "a\x00b"}, 400),
        (ORDER | {"customer": "\ud800"}, 400),
        (ORDER | {"lines": [LINE | {"quantity": 10**30}]}, 400),
        (ORDER | {"lines": [LINE | {"quantity": "2"}]}, 400),
    ],
)
def test_a_bad_body_reaches_no_database(body: Any, status: int, shop: Shop) -> None:
    """A reason, and not one connection."""
    answer = shop.api("POST", "/orders", body)
    assert (answer.status, bool(answer.body["reasons"])) == (status, True)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert db.status()["totals"]["connects"] == 0


@pytest.mark.parametrize(
    "path", ["/orders/7", "/orders/%00", "/orders/1%20OR%201=1", "/orders/0b8e5f7c2d3a4e1f9a6b7c8d9e0f1a2b"]
)
def test_a_bad_id_reaches_no_database(path: str, shop: Shop) -> None:
    """To read or to change."""
    assert shop.api("GET", path).status == 400
    assert shop.api("PATCH", path, {"status": "paid", "version": 1}).status == 400
    assert db.status()["totals"]["connects"] == 0


def test_the_claim_that_names_the_tenant_is_the_issuers(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the one name that the deploy gives, and under no other."""
    monkeypatch.setattr(api, "TENANT_CLAIM", "custom:org")
    assert shop.api("POST", "/orders", ORDER, claims={"custom:org": "acme", "tenant_id": "globex"}).status == 201
    monkeypatch.undo()
    assert shop.api("GET", "/orders", claims={"custom:org": "acme"}).status == 403
    assert len(shop.api("GET", "/orders", claims={"tenant_id": "acme"}).body["orders"]) == 1


@pytest.mark.parametrize(
    "claims", [None, {}, {"tenant_id": ""}, {"tenant_id": 7}, {"tenant_id": "a\x00"}, {"tenant_id": "x" * 300}]
)
def test_a_caller_without_a_usable_tenant_is_forbidden(claims: Any, shop: Shop) -> None:
    """Whatever the token lacks."""
    for answer in (
        shop.api("POST", "/orders", ORDER, claims=claims),
        shop.api("GET", "/orders", claims=claims),
        shop.api("GET", f"/orders/{uuid.uuid4()}", claims=claims),
    ):
        assert answer.status == 403
    assert db.status()["totals"]["connects"] == 0


def test_a_body_in_base64_is_read(shop: Shop) -> None:
    """As API Gateway sends what it takes for binary; what is not base64 is told so."""
    event = http_event("POST", "/orders", "eyJjdXN0b21lciI6", {"tenant_id": "acme"}, None)
    for body, reason in (
        ("eyJjdXN0b21lciI6", "the body is not JSON"),
        ("=not base64=", "the body is not base64"),
        ("\u00e9", "the body is not base64"),
    ):
        answer = api.handler(event | {"body": body, "isBase64Encoded": True}, shop.context(remaining_s=5))
        assert json.loads(answer["body"])["reasons"] == [reason]


def test_the_api_runs_under_mock_aws(database: Database, shop: Shop, lambda_context: MakeLambdaContext) -> None:
    """moto in the process serves the secret as well as moto's server does."""
    place = {"engine": "postgres", "host": database.host, "port": database.port, "dbname": database.name}
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
        boto3.client("secretsmanager").create_secret(
            Name="mocked",
            SecretString=json.dumps(place | {"username": database.app, "password": database.app_password}),
        )
        db.configure(Settings(secret_id="mocked"))
        assert shop.api("POST", "/orders", ORDER).status == 201
