"""What comes from outside is checked, with all its reasons, before anything else happens."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.orders.ids import uuid7
from handlers.orders.model import (
    Invalid,
    NewOrder,
    TooLarge,
    parse_id,
    parse_json,
    parse_order,
    parse_page,
    parse_status_change,
)

ID = uuid.UUID("01936f2e-8c00-7a10-8b2d-3f5a9c1e0001")
LINE = {"sku": "BOOK-42", "quantity": 2, "unit_price_minor": 1250}
ORDER: dict[str, Any] = {"customer": "c-1", "currency": "EUR", "lines": [LINE]}


def reasons(value: object, make_id: uuid.UUID | None = ID) -> tuple[str, ...]:
    with pytest.raises(Invalid) as caught:
        parse_order(value, make_id=make_id)
    return caught.value.reasons


def test_an_order_is_read() -> None:
    """Money is integer minor units; the total is the sum of the lines."""
    order = parse_order(ORDER | {"lines": [LINE, LINE | {"quantity": 1, "unit_price_minor": 1}]}, make_id=ID)
    assert (order.id, order.customer, order.currency, order.total_minor) == (ID, "c-1", "EUR", 2501)


def test_all_reasons_are_given_at_once() -> None:
    """A caller mends a request once."""
    bad_line = {"sku": " ", "quantity": True, "unit_price_minor": 12.5}
    assert reasons({"customer": 7, "currency": "euro", "lines": [LINE, bad_line]}) == (
        "customer is not a text of 1 to 255 characters",
        "currency is not a code of three capital letters (ISO 4217)",
        "lines[1].sku is not a text of 1 to 255 characters",
        "lines[1].quantity is not a whole number from 1 to 1000000",
        "lines[1].unit_price_minor is not a whole number from 0 to 1000000000000",
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the body is not a JSON object"),
        ([], "the body is not a JSON object"),
        ({"customer": "c", "currency": "EUR"}, "lines is missing"),
        (ORDER | {"tenant_id": "globex"}, "'tenant_id' is not a field"),
        (ORDER | {"id": str(ID)}, "'id' is not a field"),
        (ORDER | {"lines": []}, "lines is not a list of 1 to 100"),
        (ORDER | {"lines": [LINE] * 101}, "lines is not a list of 1 to 100"),
        (ORDER | {"lines": ["x"]}, "lines[0]: the body is not a JSON object"),
        (ORDER | {"customer": "a\x00b"}, "customer holds a character that no text may hold"),
        (ORDER | {"customer": "\ud800"}, "customer holds a character that no text may hold"),
        (ORDER | {"currency": "ÄÖÜ"}, "currency is not a code of three capital letters (ISO 4217)"),
        (
            ORDER | {"lines": [LINE | {"quantity": 10**6, "unit_price_minor": 10**12}] * 10},
            "the total is more than 9223372036854775807 minor units",
        ),
    ],
)
def test_an_order_that_will_not_do_is_refused(value: object, reason: str) -> None:
    """With the reason."""
    assert reasons(value) == (reason,)


def test_an_order_from_a_queue_brings_its_own_id() -> None:
    """By it a second delivery of the message is known."""
    assert parse_order(ORDER | {"id": str(ID)}, make_id=None).id == ID
    assert reasons(ORDER, make_id=None) == ("id is missing",)
    assert reasons(ORDER | {"id": "7"}, make_id=None) == ("id is not a UUID",)


@pytest.mark.parametrize("text", ["7", "{" + str(ID) + "}", ID.hex, f"urn:uuid:{ID}", str(ID) + "0", "", None, 7])
def test_only_a_canonical_uuid_is_one(text: Any) -> None:
    """Python's own constructor takes more forms than a key should have."""
    with pytest.raises(Invalid, match="is not a UUID"):
        parse_id(text)


@pytest.mark.parametrize(
    "body", ["", None, "{", "NaN", '{"a": Infinity}', "[" * 50_000, b"\xff", "1" * 5000, '"\ud800"']
)
def test_a_body_that_is_not_json_is_refused(body: Any) -> None:
    """Whatever way it is not."""
    with pytest.raises(Invalid):
        parse_json(body)


def test_a_huge_body_is_refused_unread() -> None:
    """Its size is reason enough."""
    with pytest.raises(TooLarge, match="larger than 65536 bytes"):
        parse_json('"' + "x" * 65536 + '"')


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "-1"},
        {"limit": "1e2"},
        {"limit": "²"},
        {"limit": "99999999999999999999"},
        {"limit": "0001" + "9" * 5000},
        {"limit": "00501"},
        {"after": "x"},
        {"status": "lost"},
        {"offset": "5"},
    ],
)
def test_a_page_that_cannot_be_meant_is_refused(query: dict[str, str]) -> None:
    """Unknown parameters too: a typo must not return everything."""
    with pytest.raises(Invalid):
        parse_page(query)


@pytest.mark.parametrize(
    "value",
    [
        {"status": "pending", "version": 1},
        {"status": "paid", "version": 0},
        {"status": [], "version": 1},
        {"status": "paid"},
    ],
)
def test_a_status_change_that_cannot_be_meant_is_refused(value: object) -> None:
    """No order becomes pending again; a version is a positive whole number."""
    with pytest.raises(Invalid):
        parse_status_change(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ORDER, *LINE, "id", "x"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(json_values)
def test_no_json_value_does_anything_but_pass_or_be_refused(value: object) -> None:
    """The parser raises nothing else, and what passes can be sent to the database."""
    try:
        order = parse_order(value, make_id=ID)
    except Invalid:
        return
    assert isinstance(order, NewOrder)
    json.dumps([order.customer, order.currency]).encode()


def test_ids_sort_by_the_time_of_their_making() -> None:
    """Version 7, RFC variant, milliseconds first."""
    early, late = uuid7(now_ms=1_795_342_530_000), uuid7(now_ms=1_795_342_530_001)
    assert early < late
    assert (early.version, early.variant) == (7, uuid.RFC_4122)
    assert early.int >> 80 == 1_795_342_530_000
    assert len({uuid7(now_ms=0) for _ in range(1000)}) == 1000
