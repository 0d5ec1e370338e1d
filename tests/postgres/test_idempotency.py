"""Handlers that answer an event once: ``db.idempotent``, and Powertools' own decorator on the same table."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyKeyError,
    IdempotencyValidationError,
)
from jmespath.exceptions import JMESPathError  # type: ignore[import-untyped]
from sqlalchemy import text

import db
from db.powertools import OncePersistenceLayer

from .conftest import Use
from .fix_once import effects, tenants_effects  # noqa: F401 - fixtures
from .test_once import keys, note, noted, waits_for_a_lock

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from devkit.plugin import Database, MakeLambdaContext
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


# Powertools' decorator.


@pytest.fixture
def layer() -> OncePersistenceLayer:
    return OncePersistenceLayer()


def decorated(layer: OncePersistenceLayer, fn: Any, **config: Any) -> Any:
    """``fn`` as a handler under Powertools' decorator, by the key ``id``."""
    settings = IdempotencyConfig(event_key_jmespath="id", raise_on_no_idempotency_key=True, **config)

    @idempotent(config=settings, persistence_store=layer)
    def handler(event: Any, context: Any) -> Any:
        return fn(event, context)

    return db.invocation(handler)


def test_powertools_decorator_commits_record_and_work_together(
    layer: OncePersistenceLayer, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """And gives a duplicate the stored answer."""
    handler = decorated(layer, lambda event, _context: note(layer.tx, event["note"])["noted"])
    answers = [handler({"id": 7, "note": what}, lambda_context()) for what in ("one", "two")]
    assert (answers, noted(postgres, database), keys(postgres, database)) == (["one", "one"], ["one"], 1)


def test_under_powertools_decorator_what_raises_leaves_nothing(
    layer: OncePersistenceLayer, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """So the next call is the first."""

    def work(event: Any, _context: Any) -> str:
        note(layer.tx, event["note"])
        if event["note"] == "one":
            raise LookupError
        return "done"

    handler = decorated(layer, work)
    with pytest.raises(LookupError):
        handler({"id": 7, "note": "one"}, lambda_context())
    assert (noted(postgres, database), keys(postgres, database)) == ([], 0)
    assert handler({"id": 7, "note": "two"}, lambda_context()) == "done"


def test_a_call_that_was_cut_off_is_undone_by_the_next(
    layer: OncePersistenceLayer, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """Powertools does not tell the layer of it; its connection is the pool's only one."""

    def work(event: Any, _context: Any) -> str:
        note(layer.tx, event["note"])
        if event["note"] == "one":
            raise KeyboardInterrupt
        return "done"

    handler = decorated(layer, work)
    with pytest.raises(KeyboardInterrupt):
        handler({"id": 7, "note": "one"}, lambda_context())
    assert handler({"id": 7, "note": "two"}, lambda_context()) == "done"
    assert noted(postgres, database) == ["two"]


def test_a_duplicate_under_powertools_decorator_waits_for_the_first(
    use: Use, layer: OncePersistenceLayer, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """There is no record of work in progress that it could meet."""
    use(pool_size=2)

    def work(event: Any, _context: Any) -> str:
        if event["note"] == "first":
            after.append(beside.submit(handler, {"id": 7, "note": "second"}, lambda_context()))
            waits_for_a_lock(postgres, database)
        return str(note(layer.tx, event["note"])["noted"])

    handler = decorated(layer, work)
    after: list[Any] = []
    with ThreadPoolExecutor(1) as beside:
        first = handler({"id": 7, "note": "first"}, lambda_context())
    assert (first, after[0].result()) == ("first", "first")
    assert noted(postgres, database) == ["first"]


def test_powertools_own_checks_hold(layer: OncePersistenceLayer, lambda_context: MakeLambdaContext) -> None:
    """Of the payload, of a missing key, and of its local cache."""
    handler = decorated(
        layer, lambda _event, _context: "done", payload_validation_jmespath="note", use_local_cache=True
    )
    assert [handler({"id": 7, "note": "a"}, lambda_context()) for _ in range(2)] == ["done", "done"]
    with pytest.raises(IdempotencyValidationError):
        handler({"id": 7, "note": "b"}, lambda_context())
    with pytest.raises(IdempotencyKeyError):
        handler({"note": "a"}, lambda_context())


def test_the_layers_transaction_is_there_for_the_function_alone(layer: OncePersistenceLayer) -> None:
    """Outside of it there is none."""
    with pytest.raises(db.DbError, match="no transaction"):
        _ = layer.tx


@pytest.mark.usefixtures("tenants_effects")
def test_the_layers_tenant_is_the_bound_one(layer: OncePersistenceLayer, lambda_context: MakeLambdaContext) -> None:
    """By ``db.scope`` around the function."""
    handler = decorated(
        layer, lambda _event, _context: layer.tx.execute(text("SELECT current_setting('app.tenant_id')")).scalar_one()
    )
    seen = []
    for tenant in ("acme", "globex", "acme"):
        with db.scope(tenant=tenant):
            seen.append(handler({"id": 7}, lambda_context()))
    assert seen == ["acme", "globex", "acme"]
