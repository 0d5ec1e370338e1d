"""``db.wire.orjson_codec``: what ``json`` gives, by orjson."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import uuid
from collections import OrderedDict, namedtuple
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.wire import orjson_codec

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.sampled_from([2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64]),
    st.floats(),
)
# Any character, halves of surrogate pairs too.
WORDS = st.text(st.characters(exclude_categories=[]), max_size=8)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


class Word(str):
    """A str, and not exactly that."""

    __slots__ = ()


class Renaming(dict[str, int]):
    """A dict that shows other items than it has."""

    def items(self) -> Any:
        return [("shown", 1)]


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


KEY = "e2ad85ab-2b2f-4a41-8a3c-9f3d1d1f0e57"
Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - as people write it


def outcome(call: Callable[[Any], Any], given: Any) -> str:
    """The value as it prints, where NaN and -0.0 are themselves; or the error."""
    try:
        return repr(call(given))
    except (ValueError, TypeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"


@settings(max_examples=40)
@given(DOCUMENTS, st.booleans())
def test_what_json_wrote_is_read_as_json_reads_it(document: Any, escaped: bool) -> None:
    """Integers beyond 64 bits stay integers; NaN and halves of surrogate pairs are read."""
    written = json.dumps(document, ensure_ascii=escaped)
    assert outcome(orjson_codec.loads, written) == outcome(json.loads, written)
    stored = written.encode(errors="surrogatepass")
    assert outcome(orjson_codec.loads, stored) == outcome(json.loads, stored)


@settings(max_examples=40)
@given(DOCUMENTS)
def test_what_is_written_is_what_json_would_have_written(document: Any) -> None:
    """As a value: there are fewer blanks and escapes in its text."""
    assert outcome(json.loads, orjson_codec.dumps(document)) == outcome(json.loads, json.dumps(document))


@pytest.mark.parametrize(
    "text",
    [
        *("-0", "1e400", "-1e400", "1e-400", "5e-324", "1.7976931348623159e308", "0.12345678901234567890"),
        *("18446744073709551615", "18446744073709551616", "-9223372036854775808", "-9223372036854775809"),
        *("9" * 5000, '{"a": 1, "a": 2}', '"\\ud800"', '"\\u0000"', "\ufeff1", "NaN", "-Infinity"),
        *("[" * 500 + "]" * 500, "[" * 1500 + "]" * 1500, "", " ", "tru", "01", "[1,]", "[1]x", '"\x01"', "\x0c1"),
    ],
)
def test_the_corners_of_json_are_its_own(text: str) -> None:
    """Limits, and the words of an error."""
    assert outcome(orjson_codec.loads, text) == outcome(json.loads, text)
    assert outcome(orjson_codec.loads, text.encode()) == outcome(json.loads, text.encode())


@pytest.mark.parametrize(
    "value",
    [
        *({1: "a", None: "b", False: "c", 1.5: "d"}, {Word("a"): Word("b")}, Renaming(a=2), OrderedDict(b=1, a=2)),
        *(Pair(1, [2]), (1, (2,)), [float("nan")], {"a": None, "b": float("inf")}, "null", 2**64, "\ud800", "é\u2028"),
        *(dt.date(2026, 11, 28), dt.datetime(2026, 11, 28, tzinfo=dt.UTC), Decimal("1.5"), b"a", {1}, Point(1), object),
    ],
    ids=repr,
)
def test_what_json_writes_or_refuses_is_written_or_refused(value: Any) -> None:
    """Keys that are no text, subclasses and their methods, NaN; and what neither takes."""

    def read_back(dumps: Callable[[Any], str]) -> Callable[[Any], Any]:
        return lambda given: json.loads(dumps(given))

    assert outcome(read_back(orjson_codec.dumps), value) == outcome(read_back(json.dumps), value)


def test_a_circle_is_refused() -> None:
    """In json's words."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular reference"):
        orjson_codec.dumps(circle)


@pytest.mark.parametrize(("value", "written"), [(uuid.UUID(int=1), str(uuid.UUID(int=1))), (Colour.RED, "red")])
def test_uuids_and_enums_are_written(value: Any, written: str) -> None:
    """The documented difference: orjson has no option that refuses them."""
    assert json.loads(orjson_codec.dumps({"a": value})) == {"a": written}


def test_json_is_asked_only_where_it_has_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identifiers of 19 digits, times and UUIDs are orjson's."""
    document = {"id": 2**63 - 1, "at": "2026-11-28T19:43:19.123456+00:00", "key": KEY, "x": 0.1}
    written = orjson.dumps(document)
    monkeypatch.delattr(json, "loads")
    monkeypatch.delattr(json, "dumps")
    assert orjson_codec.loads(written) == orjson_codec.loads(written.decode()) == document
    assert orjson_codec.dumps(document) == written.decode()
