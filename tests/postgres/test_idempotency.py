"""Handlers that answer an event once: ``db.idempotent``. Powertools' own decorator: ``test_once_layer``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jmespath.exceptions import JMESPathError  # type: ignore[import-untyped]

import db

from .fix_once import effects, tenants_effects  # noqa: F401 - fixtures
from .test_once import keys, note, noted

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from devkit.plugin import Database
    from devkit.servers.postgres import Postgres

pytestmark = pytest.mark.usefixtures("effects")


def request(key: Any, what: str = "one", tenant: str = "acme") -> dict[str, Any]:
    return {"body": json.dumps({"id": key, "note": what}), "tenant": tenant}


def answer(tx: Connection, event: Any, _context: Any) -> dict[str, Any]:
    return {"statusCode": 201, "body": note(tx, json.loads(event["body"])["note"])["noted"]}


BY_ID = "powertools_json(body).id"


def test_an_event_that_comes_twice_is_answered_alike(database: Database, postgres: Postgres) -> None:
    """By the key that an expression finds in it."""
    handler = db.invocation(db.idempotent(key=BY_ID)(answer))
    assert [handler(request("7", what), None)["body"] for what in ("one", "two")] == ["one", "one"]
    assert noted(postgres, database) == ["one"]


@pytest.mark.parametrize("key", ["x" * 1000, 7, 0, False, ["a", None], {"n": 1}])
def test_a_key_of_any_form_is_one(key: Any) -> None:
    """Numbers, lists, and texts of any length."""
    handler = db.idempotent(key=BY_ID)(answer)
    assert [handler(request(key, what), None)["body"] for what in ("one", "two")] == ["one", "one"]


@pytest.mark.parametrize("key", [None, "", " ", [], [None, None], {"n": None}])
def test_an_event_without_a_key_is_refused(key: Any, database: Database, postgres: Postgres) -> None:
    """It could not be known again."""
    with pytest.raises(db.InvalidKeyError, match=r"powertools_json\(body\).id"):
        db.idempotent(key=BY_ID)(answer)(request(key), None)
    assert noted(postgres, database) == []


def test_a_key_that_json_cannot_hold_is_refused_before_anything_is_sent() -> None:
    """An event that a decorator has made objects of; no caller can send such a key."""
    with pytest.raises(TypeError, match="JSON cannot hold the key id: Object of type object"):
        db.idempotent(key="id")(answer)({"id": object()}, None)
    assert db.status()["totals"]["connects"] == 0


def test_another_payload_under_the_key_is_refused() -> None:
    """By the part of the event that an expression names."""
    handler = db.idempotent(key=BY_ID, payload="powertools_json(body).note")(answer)
    handler(request("7", "one"), None)
    with pytest.raises(db.KeyReusedError):
        handler(request("7", "two"), None)


@pytest.mark.usefixtures("tenants_effects")
def test_the_tenant_is_found_in_the_event(database: Database, postgres: Postgres) -> None:
    """It scopes the key and holds in the transaction."""
    handler = db.idempotent(key=BY_ID, tenant="tenant")(answer)
    for tenant in ("acme", "globex", "acme"):
        handler(request("7", tenant, tenant), None)
    rows = postgres.execute("SELECT tenant_id, note FROM effects ORDER BY 1", database=database.name)
    assert rows == [("acme", "acme"), ("globex", "globex")]


@pytest.mark.parametrize("tenant", [None, "", 7])
def test_an_event_without_its_tenant_is_refused(tenant: Any, database: Database, postgres: Postgres) -> None:
    """It is not taken for nobody's."""
    with pytest.raises(db.TenantError):
        db.idempotent(key=BY_ID, tenant="tenant")(answer)(request("7") | {"tenant": tenant}, None)
    assert (noted(postgres, database), keys(postgres, database)) == ([], 0)


def test_two_functions_do_not_share_their_keys() -> None:
    """Unless they share a name."""

    def other(tx: Connection, event: Any, context: Any) -> Any:
        return answer(tx, event, context)

    assert db.idempotent(key=BY_ID)(answer)(request("7", "one"), None)["body"] == "one"
    assert db.idempotent(key=BY_ID)(other)(request("7", "two"), None)["body"] == "two"
    old_name = f"{answer.__module__}.{answer.__qualname__}"
    assert db.idempotent(key=BY_ID, name=old_name)(other)(request("7", "three"), None)["body"] == "one"


def test_an_expression_that_is_none_fails_where_it_stands() -> None:
    """When the module is loaded, not with the first event."""
    with pytest.raises(JMESPathError):
        db.idempotent(key="a[")
