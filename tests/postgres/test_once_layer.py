"""Powertools' own decorators on ``OncePersistenceLayer``: what they do with a transaction, tenants and one another."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent, idempotent_function
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyKeyError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)
from aws_lambda_powertools.warnings import PowertoolsUserWarning
from sqlalchemy import exc, text

import db
from db.powertools import OncePersistenceLayer

from .conftest import Use
from .fix_once import effects, tenants_effects  # noqa: F401 - fixtures
from .test_once import keys, note, noted, waits_for_a_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.postgres import Postgres

pytestmark = pytest.mark.usefixtures("effects")


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


TENANT = text("SELECT current_setting('app.tenant_id', true)")


class TimeUpError(BaseException):
    """What a watchdog raises, so that no ``except Exception`` takes it."""


def function(layer: OncePersistenceLayer, work: Callable[[Any], Any], **config: Any) -> Any:
    """``work`` as a function under Powertools' decorator, by the key ``id`` of its argument ``data``."""
    settings = IdempotencyConfig(event_key_jmespath="id", **config)

    @idempotent_function(data_keyword_argument="data", config=settings, persistence_store=layer)  # type: ignore[untyped-decorator]
    def decorated_function(*, data: Any) -> Any:
        return work(data)

    def call(data: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Couldn't determine the remaining time left")
            return decorated_function(data=data)

    return call


@pytest.mark.usefixtures("tenants_effects")
@pytest.mark.parametrize("cached", [False, True])
def test_a_tenant_is_given_its_own_answer(cached: bool, layer: OncePersistenceLayer) -> None:
    """Powertools keeps its local cache by the key alone, and the key is the tenant's."""
    answer = function(layer, lambda _data: layer.tx.scalar(TENANT), use_local_cache=cached)
    seen = []
    for tenant in ("acme", "globex", "acme"):
        with db.scope(tenant=tenant):
            seen.append(answer({"id": 7}))
    assert seen == ["acme", "globex", "acme"]


def test_what_is_cached_needs_no_database(use: Use, layer: OncePersistenceLayer) -> None:
    """The first answer and a replay from the table are both kept; an expired one is asked for again."""
    replayed = OncePersistenceLayer()
    calls: list[str] = []

    def work(data: Any) -> str:
        calls.append(data["note"])
        return str(data["note"])

    first, second = (
        function(store, work, use_local_cache=True, expires_after_seconds=60) for store in (layer, replayed)
    )
    assert [first({"id": 7, "note": "one"}), second({"id": 7, "note": "two"})] == ["one", "one"]
    before = db.status()["totals"]["checkouts"]
    assert [first({"id": 7, "note": "three"}), second({"id": 7, "note": "four"})] == ["one", "one"]
    assert (db.status()["totals"]["checkouts"], calls) == (before, ["one"])
    for store in (layer, replayed):
        for record in store._cache.values():
            record.expiry_timestamp = 1
    assert second({"id": 7, "note": "five"}) == "one"
    assert db.status()["totals"]["checkouts"] > before


@pytest.mark.parametrize("key", [None, 8])
def test_the_next_call_gets_no_transaction_of_one_that_was_cut_off(
    key: int | None, layer: OncePersistenceLayer, database: Database, postgres: Postgres
) -> None:
    """Not even within the same invocation, and without a key; what the first did is undone."""

    def work(data: Any) -> Any:
        note(layer.tx, data["note"])
        if data["note"] == "cut off":
            raise TimeUpError
        return layer.tx.scalar(TENANT)

    call = function(layer, work)
    with db.scope(tenant="acme"), pytest.raises(TimeUpError):
        call({"id": 7, "note": "cut off"})
    with db.scope(tenant="globex"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No idempotency key value found")
        assert call({"id": key, "note": "next"}) == "globex"
    assert noted(postgres, database) == ["next"]


def test_a_call_that_was_cut_off_holds_nothing_after_its_invocation(
    layer: OncePersistenceLayer, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """The environment is frozen then; its locks would hold for as long."""

    def work(_event: Any, _context: Any) -> None:
        note(layer.tx, "cut off")
        raise TimeUpError

    with pytest.raises(TimeUpError):
        decorated(layer, work)({"id": 7}, lambda_context())
    assert db.status()["engines"]["writer"]["checked_out"] == 0
    assert noted(postgres, database) == []
    with pytest.raises(db.DbError, match="no transaction"):
        _ = layer.tx


def test_an_answer_that_cannot_be_stored_leaves_nothing(
    layer: OncePersistenceLayer, database: Database, postgres: Postgres
) -> None:
    """JSON does not hold it, so a duplicate could not be given it."""

    def work(data: Any) -> Any:
        note(layer.tx, data["note"])
        return {1, 2}.__iter__() if data["note"] == "one" else "done"

    call = function(layer, work)
    with pytest.raises(
        IdempotencyPersistenceLayerError,
        match=r"JSON cannot hold what .*decorated_function returned: .* an output_serializer",
    ):
        call({"id": 7, "note": "one"})
    assert db.status()["engines"]["writer"]["checked_out"] == 0
    assert call({"id": 7, "note": "two"}) == "done"
    assert noted(postgres, database) == ["two"]


def test_a_key_that_json_cannot_hold_is_refused_before_the_work(layer: OncePersistenceLayer) -> None:
    """Its place is named, inside of Powertools' own error; no transaction has begun."""
    done: list[Any] = []
    with pytest.raises(
        IdempotencyPersistenceLayerError, match=r"JSON cannot hold the key, or the payload, of .*: Object of type"
    ):
        function(layer, done.append)({"id": object()})
    assert (done, db.status()["totals"]["connects"]) == ([], 0)


@pytest.mark.parametrize("shared", [True, False])
def test_a_function_inside_of_another_commits_with_it(
    shared: bool, layer: OncePersistenceLayer, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """In a savepoint, over the one connection that there is; each has its record."""
    inner_layer = layer if shared else OncePersistenceLayer()
    inner = function(inner_layer, lambda data: note(inner_layer.tx, data["note"])["noted"])

    def work(event: Any, _context: Any) -> Any:
        note(layer.tx, "outer")
        return [inner({"id": 1, "note": "inner"}), inner({"id": 1, "note": "again"}), event["id"]]

    handler = decorated(layer, work)
    assert [handler({"id": 7}, lambda_context()) for _ in range(2)] == [["inner", "inner", 7]] * 2
    assert (noted(postgres, database), keys(postgres, database)) == (["inner", "outer"], 2)


def test_a_function_that_fails_inside_of_another_takes_its_own_along(
    layer: OncePersistenceLayer, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """And no more, where the outer one goes on; its key is new again."""
    inner = function(layer, lambda data: note(layer.tx, data["note"])["noted"])

    def work(_event: Any, _context: Any) -> Any:
        note(layer.tx, "outer")
        with pytest.raises(exc.IntegrityError):
            inner({"id": 1, "note": "bad"})
        return inner({"id": 1, "note": "good"})

    assert decorated(layer, work)({"id": 7}, lambda_context()) == "good"
    assert noted(postgres, database) == ["good", "outer"]


def test_a_function_inside_of_one_that_fails_was_not_done(
    layer: OncePersistenceLayer, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """Nor is it cached as done."""
    inner = function(layer, lambda data: note(layer.tx, data["note"])["noted"])

    def work(event: Any, _context: Any) -> Any:
        done = inner({"id": 1, "note": event["note"]})
        if event["note"] == "one":
            raise LookupError
        return done

    handler = decorated(layer, work)
    with pytest.raises(LookupError):
        handler({"id": 7, "note": "one"}, lambda_context())
    assert (noted(postgres, database), keys(postgres, database)) == ([], 0)
    assert handler({"id": 7, "note": "two"}, lambda_context()) == "two"


@pytest.mark.usefixtures("tenants_effects")
def test_a_function_for_another_tenant_has_a_transaction_of_its_own(use: Use, layer: OncePersistenceLayer) -> None:
    """A transaction is one tenant's; so it needs a second connection, and says so where there is none."""
    inner = function(layer, lambda _data: layer.tx.scalar(TENANT))

    def work(_data: Any) -> Any:
        with db.scope(tenant="globex"):
            return [inner({"id": 1}), layer.tx.scalar(TENANT)]

    outer = function(layer, work)
    with db.scope(tenant="acme"), pytest.raises(IdempotencyPersistenceLayerError, match="DB_POOL_SIZE"):
        outer({"id": 7})
    use(pool_size=2)
    with db.scope(tenant="acme"):
        assert outer({"id": 7}) == ["globex", "acme"]


def test_a_function_that_calls_itself_under_its_key_is_at_work(layer: OncePersistenceLayer) -> None:
    """It is not taken for done, with nothing for an answer."""
    call: Any = function(layer, lambda data: [call(data)])
    with pytest.raises(IdempotencyAlreadyInProgressError):
        call({"id": 7})


def test_a_duplicate_that_waits_too_long_is_told_that_the_first_is_at_work(
    use: Use, layer: OncePersistenceLayer, lambda_context: MakeLambdaContext
) -> None:
    """By Powertools' own error, which callers of it know."""
    use(pool_size=2, lock_timeout_s=0.05)

    def work(_event: Any, _context: Any) -> Any:
        with ThreadPoolExecutor(1) as beside:
            return type(beside.submit(handler, {"id": 7}, lambda_context()).exception()).__name__

    handler = decorated(layer, work)
    assert handler({"id": 7}, lambda_context()) == "IdempotencyAlreadyInProgressError"


def test_without_a_key_the_function_has_a_transaction_without_a_record(
    layer: OncePersistenceLayer, database: Database, postgres: Postgres
) -> None:
    """Powertools runs it unprotected, and says so; what raises is rolled back as ever."""

    def work(data: Any) -> Any:
        note(layer.tx, data["note"])
        if data["note"] == "two":
            raise LookupError
        return "done"

    call = function(layer, work)
    with pytest.warns(UserWarning, match="No idempotency key value found"):
        assert [call({"note": "one"}), call({"note": "three"})] == ["done", "done"]
    with pytest.warns(UserWarning, match="No idempotency key value found"), pytest.raises(LookupError):
        call({"note": "two"})
    assert (noted(postgres, database), keys(postgres, database)) == (["one", "three"], 0)


def test_a_function_without_a_key_that_asks_for_no_transaction_opens_none(layer: OncePersistenceLayer) -> None:
    """Nothing is sent for it."""
    call = function(layer, lambda _data: "done")
    with pytest.warns(UserWarning, match="No idempotency key value found"):
        assert call({}) == "done"
    assert db.status()["totals"]["connects"] == 0


def test_where_idempotency_is_disabled_the_transaction_that_is_missing_says_why(
    layer: OncePersistenceLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Powertools does not tell the layer of the call, so nobody would commit it."""
    monkeypatch.setenv("POWERTOOLS_IDEMPOTENCY_DISABLED", "true")
    call = function(layer, lambda data: "done" if data["id"] else layer.tx)
    with pytest.warns(PowertoolsUserWarning):
        assert call({"id": 7}) == "done"
    with pytest.warns(PowertoolsUserWarning), pytest.raises(db.DbError, match="POWERTOOLS_IDEMPOTENCY_DISABLED is set"):
        call({"id": 0})


def test_a_hook_is_told_when_the_record_expires(layer: OncePersistenceLayer, lambda_context: MakeLambdaContext) -> None:
    """As Powertools' pages have it: a header with the date."""

    def hook(response: Any, record: Any) -> Any:
        return response | {"expires": record.get_expiration_datetime().isoformat(), "key": record.idempotency_key}

    handler = decorated(layer, lambda _event, _context: {"status": 201}, response_hook=hook, expires_after_seconds=60)
    first, second = (handler({"id": 7}, lambda_context()) for _ in range(2))
    assert first == {"status": 201}
    assert second.keys() == {"status", "expires", "key"}


def test_a_thread_has_no_transaction_of_the_call_that_started_it(layer: OncePersistenceLayer) -> None:
    """A connection is for one thread; it is told so."""
    failures: list[str] = []

    def beside() -> None:
        try:
            _ = layer.tx
        except db.DbError as error:
            failures.append(str(error))

    def work(_data: Any) -> None:
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()

    function(layer, work)({"id": 7})
    assert "nor in a thread that it starts" in failures[0]
