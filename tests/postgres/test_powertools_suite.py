"""What Powertools promises of its decorators whatever the store is: held by the layer on a real server.

The behaviours are those of its functional tests of idempotency, which run on a stubbed DynamoDB there and come with
neither its wheel nor its sdist. Each is looked at with its local cache and without. Those of its tests of batches are
in ``test_powertools_batch``.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import date, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from uuid import UUID

import jmespath  # type: ignore[import-untyped]
import pytest
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2, event_source
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent, idempotent_function
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyKeyError,
    IdempotencyNoSerializationModelError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)
from aws_lambda_powertools.utilities.idempotency.serialization.custom_dict import CustomDictSerializer
from aws_lambda_powertools.utilities.idempotency.serialization.dataclass import DataclassSerializer
from aws_lambda_powertools.utilities.idempotency.serialization.pydantic import PydanticSerializer
from pydantic import BaseModel

import db
from db.powertools import OncePersistenceLayer

from .fix_once import effects  # noqa: F401 - a fixture
from .test_once import keys, note, noted

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.postgres import Postgres

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("effects"),
    pytest.mark.filterwarnings("ignore:Couldn't determine the remaining time left"),
]


@pytest.fixture
def layer() -> OncePersistenceLayer:
    return OncePersistenceLayer()


@pytest.fixture(params=[False, True], ids=["uncached", "cached"])
def cached(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@dataclasses.dataclass
class Order:
    number: int
    what: str = "book"


class Counted:
    """A function that notes its calls, and gives what it is told to."""

    def __init__(self, gives: Callable[[Any], Any]) -> None:
        self.gives = gives
        self.calls = 0

    def __call__(self, data: Any) -> Any:
        self.calls += 1
        return self.gives(data)


def handler_of(layer: OncePersistenceLayer, work: Callable[[Any], Any], context: Any, **config: Any) -> Any:
    """``work(event)`` under ``@idempotent``, called with ``context``."""

    @idempotent(config=IdempotencyConfig(**config), persistence_store=layer)
    def handler(event: Any, _context: Any) -> Any:
        return work(event)

    return lambda event: handler(event, context)


def function_of(layer: OncePersistenceLayer, work: Callable[[Any], Any], **arguments: Any) -> Any:
    """``work(data)`` under ``@idempotent_function``."""

    @idempotent_function(data_keyword_argument="data", persistence_store=layer, **arguments)  # type: ignore[untyped-decorator]
    def function(*, data: Any) -> Any:
        return work(data)

    return lambda data: function(data=data)


def test_the_first_call_gives_what_the_handler_gave(
    cached: bool, layer: OncePersistenceLayer, lambda_context: MakeLambdaContext
) -> None:
    """As it was; later ones give what JSON made of it, and call nothing."""
    work = Counted(lambda event: {"id": event["id"], "at": (1, 2)})
    handler = handler_of(layer, work, lambda_context(), event_key_jmespath="id", use_local_cache=cached)
    answers = [handler({"id": 7}) for _ in range(3)]
    assert answers == [{"id": 7, "at": (1, 2)}, {"id": 7, "at": [1, 2]}, {"id": 7, "at": [1, 2]}]
    assert work.calls == 1


def test_the_whole_event_is_the_key_where_none_is_named(cached: bool, layer: OncePersistenceLayer) -> None:
    """In whatever order it stands."""
    work = Counted(lambda data: data["a"])
    call = function_of(layer, work, config=IdempotencyConfig(use_local_cache=cached, hash_function="sha256"))
    assert [call({"a": 1, "b": 2}), call({"b": 2, "a": 1}), call({"a": 3})] == [1, 1, 3]
    assert work.calls == 2


def test_a_handler_may_change_the_event(
    cached: bool, layer: OncePersistenceLayer, lambda_context: MakeLambdaContext
) -> None:
    """The key is that of what came in."""
    work = Counted(lambda event: event.pop("id"))
    handler = handler_of(layer, work, lambda_context(), event_key_jmespath="id", use_local_cache=cached)
    assert [handler({"id": 7}), handler({"id": 7}), work.calls] == [7, 7, 1]


def test_an_expired_record_is_as_none(cached: bool, layer: OncePersistenceLayer) -> None:
    """The function runs again, and its new answer is kept."""
    work = Counted(lambda _data: work.calls)
    call = function_of(layer, work, config=IdempotencyConfig(use_local_cache=cached, expires_after_seconds=-1))
    assert [call({"id": 7}), call({"id": 7})] == [1, 2]


def test_what_the_handler_raises_is_raised_and_not_kept(
    cached: bool, layer: OncePersistenceLayer, lambda_context: MakeLambdaContext
) -> None:
    """The next call is the first."""

    def fail(_event: Any) -> Any:
        raise LookupError("as it was")

    work = Counted(fail)
    handler = handler_of(layer, work, lambda_context(), event_key_jmespath="id", use_local_cache=cached)
    for _ in range(2):
        with pytest.raises(LookupError, match="as it was"):
            handler({"id": 7})
    assert work.calls == 2


def test_another_payload_under_the_key_is_refused(
    cached: bool, layer: OncePersistenceLayer, lambda_context: MakeLambdaContext
) -> None:
    """Of a part that stands deep in the event, by the table and by the cache."""
    handler = handler_of(
        layer,
        lambda event: event["order"]["what"],
        lambda_context(),
        event_key_jmespath="id",
        payload_validation_jmespath="order.what",
        use_local_cache=cached,
    )
    assert [handler({"id": 7, "order": {"what": "book"}}) for _ in range(2)] == ["book", "book"]
    with pytest.raises(IdempotencyValidationError):
        handler({"id": 7, "order": {"what": "car"}})


@pytest.mark.parametrize("event", [{}, {"id": None}, {"id": ""}])
def test_a_key_that_is_missing_is_refused_where_it_is_asked_for(
    event: Any, layer: OncePersistenceLayer, lambda_context: MakeLambdaContext
) -> None:
    """And the handler is not called."""
    work = Counted(lambda _event: "done")
    handler = handler_of(layer, work, lambda_context(), event_key_jmespath="id", raise_on_no_idempotency_key=True)
    with pytest.raises(IdempotencyKeyError):
        handler(event)
    assert work.calls == 0


@pytest.mark.parametrize("data", [0, False])
def test_a_key_may_be_nought(data: Any, layer: OncePersistenceLayer) -> None:
    """It is a value; None is none."""
    work = Counted(lambda _data: "done")
    call = function_of(layer, work, config=IdempotencyConfig(raise_on_no_idempotency_key=True))
    assert [call(data), call(data), work.calls] == ["done", "done", 1]
    with pytest.raises(IdempotencyKeyError):
        call(None)


def test_expressions_have_powertools_functions_or_ones_own(
    layer: OncePersistenceLayer, lambda_context: MakeLambdaContext
) -> None:
    """``powertools_json`` reads a body; other functions take the place of all."""

    class Own(jmespath.functions.Functions):  # type: ignore[misc]
        @jmespath.functions.signature({"types": ["string"]})  # type: ignore[untyped-decorator]
        def _func_upper(self, value: str) -> str:
            return value.upper()

    work = Counted(lambda _event: "done")
    handler = handler_of(layer, work, lambda_context(), event_key_jmespath="powertools_json(body).id")
    assert [handler({"body": json.dumps({"id": 7, "at": at})}) for at in (1, 2)] == ["done", "done"]
    own = handler_of(
        OncePersistenceLayer(),
        work,
        lambda_context(),
        event_key_jmespath="upper(id)",
        jmespath_options={"custom_functions": Own()},
    )
    assert [own({"id": "a"}), own({"id": "A"}), work.calls] == ["done", "done", 2]


def test_an_event_source_class_is_an_event(
    cached: bool, layer: OncePersistenceLayer, lambda_context: MakeLambdaContext
) -> None:
    """Its raw event has the key."""

    @event_source(data_class=APIGatewayProxyEventV2)
    @idempotent(config=IdempotencyConfig(event_key_jmespath="body", use_local_cache=cached), persistence_store=layer)
    def handler(event: APIGatewayProxyEventV2, _context: Any) -> Any:
        calls.append(event.body)
        return event.body

    calls: list[Any] = []
    context: Any = lambda_context()
    assert [handler({"body": "b", "at": at}, context) for at in (1, 2)] == ["b", "b"]
    assert calls == ["b"]


def test_an_argument_may_be_a_dataclass_and_so_may_the_answer(cached: bool, layer: OncePersistenceLayer) -> None:
    """Given back as one, the first time and every other."""
    work = Counted(lambda data: Order(data.number, "sold"))
    call = function_of(
        layer,
        work,
        config=IdempotencyConfig(event_key_jmespath="number", use_local_cache=cached),
        output_serializer=DataclassSerializer(model=Order),
    )
    assert [call(Order(1)), call(Order(1, "other")), work.calls] == [Order(1, "sold"), Order(1, "sold"), 1]


class OrderModel(BaseModel):
    number: int
    what: str = "book"


def test_an_argument_may_be_a_model_and_so_may_the_answer(cached: bool, layer: OncePersistenceLayer) -> None:
    """Given back as one, as a dataclass is."""
    calls: list[int] = []

    @idempotent_function(  # type: ignore[untyped-decorator]
        data_keyword_argument="data",
        persistence_store=layer,
        config=IdempotencyConfig(event_key_jmespath="number", use_local_cache=cached),
        output_serializer=PydanticSerializer(model=OrderModel),
    )
    def function(*, data: OrderModel, what: str) -> OrderModel:
        calls.append(data.number)
        return OrderModel(number=data.number, what=what)

    first, second = (function(data=OrderModel(number=1), what=what) for what in ("sold", "lost"))
    assert first == second == OrderModel(number=1, what="sold")
    assert calls == [1]


def test_a_serializer_that_cannot_know_its_model_fails_before_any_work(layer: OncePersistenceLayer) -> None:
    """Where the function stands, not where it is called."""

    def function(*, data: Any):  # type: ignore[no-untyped-def]  # noqa: ANN202 - the point
        return data

    decorate = idempotent_function(
        data_keyword_argument="data", persistence_store=layer, output_serializer=PydanticSerializer
    )
    with pytest.raises(IdempotencyNoSerializationModelError):
        decorate(function)(data={"id": 7})
    assert db.status()["totals"]["connects"] == 0


class Kind(Enum):
    BOOK = "book"


@pytest.mark.parametrize(
    "key", [UUID(int=7), date(2026, 11, 28), time(9, 30), Kind.BOOK, PurePosixPath("a/b"), Decimal("1.10")], ids=repr
)
def test_a_key_may_be_what_powertools_makes_text_of(key: Any, layer: OncePersistenceLayer) -> None:
    """As often as it comes; another one is another."""
    work = Counted(lambda data: str(data["note"]))
    call = function_of(layer, work, config=IdempotencyConfig(event_key_jmespath="id"))
    assert [call({"id": key, "note": note}) for note in ("one", "two")] == ["one", "one"]
    assert call({"id": f"{key}.", "note": "three"}) == "three"
    assert work.calls == 2


def test_other_arguments_reach_the_function_and_are_no_part_of_the_key(layer: OncePersistenceLayer) -> None:
    """By place and by name."""
    seen: list[Any] = []

    @idempotent_function(data_keyword_argument="data", persistence_store=layer)  # type: ignore[untyped-decorator]
    def function(one: int, two: int, data: Any, more: bool = False) -> Any:
        seen.append((one, two, data, more))
        return one + two

    assert [function(1, 2, data={"id": 7}, more=True), function(3, two=4, data={"id": 7})] == [3, 3]
    assert seen == [(1, 2, {"id": 7}, True)]


def test_a_serializer_is_asked_for_what_there_is(cached: bool, layer: OncePersistenceLayer) -> None:
    """Not for None, which is an answer as well."""
    asked: list[str] = []

    def seen(name: str) -> Callable[[Any], Any]:
        def convert(value: Any) -> Any:
            asked.append(name)
            return value

        return convert

    serializer = CustomDictSerializer(to_dict=seen("to"), from_dict=seen("from"))
    work = Counted(lambda data: data["gives"])
    config = IdempotencyConfig(event_key_jmespath="id", use_local_cache=cached)
    call = function_of(layer, work, config=config, output_serializer=serializer)
    assert [call({"id": 1, "gives": None}), call({"id": 1, "gives": 2}), asked] == [None, None, []]
    assert [call({"id": 2, "gives": {"a": 1}}), call({"id": 2, "gives": None})] == [{"a": 1}, {"a": 1}]
    assert (asked, work.calls) == (["to", "from"], 2)


def test_an_argument_that_is_not_named_is_refused(layer: OncePersistenceLayer) -> None:
    """Powertools finds it by its name."""

    @idempotent_function(data_keyword_argument="data", persistence_store=layer)  # type: ignore[untyped-decorator]
    def function(data: Any) -> Any:
        return data

    with pytest.raises(RuntimeError, match="Unable to extract 'data'"):
        function({"id": 7})


@pytest.mark.parametrize("answer", [{"status": 201}, None])
def test_a_hook_sees_replays_alone(
    answer: Any, cached: bool, layer: OncePersistenceLayer, lambda_context: MakeLambdaContext
) -> None:
    """Of an answer that is None, too; what it gives is what the caller gets."""
    seen: list[Any] = []

    def hook(response: Any, record: Any) -> Any:
        seen.append((response, record.status, record.is_expired, record.response_json_as_dict()))
        return {"replayed": response}

    handler = handler_of(
        layer,
        lambda _event: answer,
        lambda_context(),
        event_key_jmespath="id",
        use_local_cache=cached,
        response_hook=hook,
    )
    assert [handler({"id": 7}), handler({"id": 7})] == [answer, {"replayed": answer}]
    assert seen == [(answer, "COMPLETED", False, answer)]


@pytest.mark.parametrize("word", ["0", "n", "no", "f", "false", "off"])
def test_a_word_that_does_not_disable_it_leaves_it_on(
    word: str, layer: OncePersistenceLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable holds a word for false."""
    monkeypatch.setenv("POWERTOOLS_IDEMPOTENCY_DISABLED", word)
    work = Counted(lambda _data: "done")
    call = function_of(layer, work)
    assert [call({"id": 7}), call({"id": 7}), work.calls] == ["done", "done", 1]


def test_two_functions_do_not_share_their_keys_unless_by_a_prefix(layer: OncePersistenceLayer) -> None:
    """Though the layer is one."""

    def other(*, data: Any) -> Any:
        return ["other", data]

    decorate = idempotent_function(data_keyword_argument="data", persistence_store=layer)
    share = idempotent_function(data_keyword_argument="data", persistence_store=layer, key_prefix="shared")
    first = function_of(layer, lambda data: ["first", data])
    assert [first(1), decorate(other)(data=1), first(1)] == [["first", 1], ["other", 1], ["first", 1]]
    first = function_of(layer, lambda data: ["first", data], key_prefix="shared")
    assert [first(1), share(other)(data=1)] == [["first", 1]] * 2


def test_a_store_that_fails_calls_nothing(
    layer: OncePersistenceLayer, database: Database, postgres: Postgres, lambda_context: MakeLambdaContext
) -> None:
    """Its reason is chained, with the remedy."""
    postgres.execute("DROP TABLE db_once", database=database.name)
    work = Counted(lambda _event: "done")
    handler = handler_of(layer, work, lambda_context(), event_key_jmespath="id")
    with pytest.raises(IdempotencyPersistenceLayerError, match="Failed to save in progress record") as caught:
        handler({"id": 7})
    assert isinstance(caught.value.__cause__, db.ConfigurationError)
    assert (work.calls, db.status()["engines"]["writer"]["checked_out"]) == (0, 0)


def test_records_of_a_batch_are_done_once(
    cached: bool,
    layer: OncePersistenceLayer,
    database: Database,
    postgres: Postgres,
    lambda_context: MakeLambdaContext,
) -> None:
    """Those that had succeeded are not done again when the queue delivers all of them anew."""
    done = function_of(
        layer,
        lambda data: note(layer.tx, json.loads(data["body"])["note"])["noted"],
        config=IdempotencyConfig(event_key_jmespath="messageId", use_local_cache=cached),
    )

    def deliver(*notes: str) -> Any:
        records = [
            {"messageId": str(n), "body": json.dumps({"note": what}), "eventSource": "aws:sqs"}
            for n, what in enumerate(notes)
        ]
        processor = BatchProcessor(event_type=EventType.SQS)
        context: Any = lambda_context()
        return process_partial_response(
            event={"Records": records},
            record_handler=lambda record: done(record.raw_event),
            processor=processor,
            context=context,
        )

    assert deliver("one", "bad", "three") == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert deliver("one", "two", "three") == {"batchItemFailures": []}
    assert (noted(postgres, database), keys(postgres, database)) == (["one", "three", "two"], 3)
