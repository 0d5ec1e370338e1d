"""Input that nobody would send: whatever comes, the API says whose mistake it is and the queue gets its records back.

``FUZZ_EXAMPLES`` is the number of events, 300 by default and then the same each time; ``make fleet`` sends 10,000
new ones.
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.orders import api, intake

from .conftest import LINE, ORDER, Shop, http_event, record

if TYPE_CHECKING:
    from collections.abc import Callable

COMMON = 300
EVENTS = int(os.environ.get("FUZZ_EXAMPLES", COMMON))
OF_THE_API = EVENTS * 2 // 3
SERVER_ERROR = 500

# Surrogates and NUL are what text columns, JSON and UTF-8 disagree about.
texts = st.text(st.characters(), max_size=40)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(uuid.uuid4().hex),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def spoilt(valid: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """``valid``, with some of its fields replaced, removed or added to."""
    replaced = st.dictionaries(st.sampled_from(sorted(valid)) | texts, values, max_size=2)
    removed = st.sets(st.sampled_from(sorted(valid)), max_size=1)
    return st.builds(lambda new, old: {k: v for k, v in (valid | new).items() if k not in old}, replaced, removed)


lines = st.lists(spoilt(LINE), max_size=3)
orders = spoilt(ORDER) | st.builds(lambda found: ORDER | {"lines": found}, lines) | st.just(ORDER)
changes = spoilt({"status": "paid", "version": 1})
bodies = st.none() | texts | st.builds(json.dumps, orders | changes | values)
identifiers = st.uuids().map(str) | texts
methods = st.sampled_from(["GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"])
paths = st.just("/orders") | identifiers.map(lambda name: f"/orders/{name}") | texts.map(lambda name: f"/{name}")
queries = st.none() | st.dictionaries(st.sampled_from(["limit", "after", "status"]) | texts, identifiers, max_size=3)
claims = st.none() | st.fixed_dictionaries({}, optional={"tenant_id": st.just("acme") | values, "sub": texts})


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """An HTTP API event: the envelope is API Gateway's, what is in it a stranger's."""
    event = http_event(draw(methods), draw(paths), draw(bodies), draw(claims), draw(queries))
    event["headers"] |= draw(st.dictionaries(st.sampled_from(["idempotency-key", "content-type", "accept"]), texts))
    event["isBase64Encoded"] = draw(st.booleans())
    if event["isBase64Encoded"] and event.get("body") and draw(st.booleans()):
        event["body"] = base64.b64encode(event["body"].encode("utf-8", "surrogatepass")).decode()
    return event


queued = spoilt(ORDER | {"id": str(uuid.uuid4())}) | st.builds(lambda name: ORDER | {"id": name}, identifiers)
tenants = st.none() | st.just("acme") | texts
# The id of a message is the queue's.
batches = st.lists(
    st.builds(record, st.uuids().map(str), texts | st.builds(json.dumps, queued | values), tenants), max_size=5
).filter(lambda batch: len({one["messageId"] for one in batch}) == len(batch))


def sent(events: st.SearchStrategy[Any], number: int, send: Callable[[Any], None]) -> int:
    """How many of ``events`` were drawn and sent."""
    count = 0

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=EVENTS == COMMON,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(events)
    def each(event: Any) -> None:
        nonlocal count
        count += 1
        send(event)

    each()
    return count


def test_no_request_is_the_servers_fault(shop: Shop) -> None:
    """Every answer is JSON and below 500."""

    def send(event: dict[str, Any]) -> None:
        answer = api.handler(event, shop.context(remaining_s=10))
        assert answer["statusCode"] < SERVER_ERROR, answer
        assert answer["statusCode"] == 204 or json.loads(answer["body"]) is not None

    assert sent(requests(), OF_THE_API, send) >= OF_THE_API


def test_no_record_is_more_than_a_failure_of_its_own(shop: Shop) -> None:
    """What is answered names records of the batch, and nothing is raised."""

    def send(batch: list[dict[str, Any]]) -> None:
        answer = intake.handler({"Records": batch}, shop.context(remaining_s=10))
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        assert failed <= {one["messageId"] for one in batch}

    assert sent(batches, EVENTS - OF_THE_API, send) >= EVENTS - OF_THE_API
