"""What an order is and may become, and the check of what comes from outside. Pure.

Every ``parse_*`` takes untrusted input and gives a typed value, or raises Invalid with all the reasons at once.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BODY_BYTES = 64 * 1024  # a hundred lines take some 10 KiB
MAX_LINES = 100
MAX_TEXT_CHARS = 255
MAX_QUANTITY = 1_000_000
MAX_PRICE_MINOR = 10**12
MAX_TOTAL_MINOR = 2**63 - 1  # bigint; a hundred lines at the limits above would be more
MAX_KEY_CHARS = 200
MAX_VERSION = 2**31 - 1
MAX_PAGE = 100
DEFAULT_PAGE = 20

_SHORT_NUMBER = re.compile(r"[1-9]\d{0,3}", re.ASCII)
_KEY = re.compile(rf"[!-~]{{1,{MAX_KEY_CHARS}}}")
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)

# From which statuses an order may come to each.
ARRIVES_FROM = {
    "paid": ("pending",),
    "shipped": ("paid",),
    "delivered": ("shipped",),
    "cancelled": ("pending", "paid"),
}
STATUSES = ("pending", *ARRIVES_FROM)


class Invalid(ValueError):  # noqa: N818 - reads as what it is where it is raised
    """Input that will not do; ``reasons`` has a sentence for each thing wrong with it."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        super().__init__("; ".join(reasons))


class TooLarge(Invalid):
    """A body larger than MAX_BODY_BYTES."""


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int
    unit_price_minor: int


@dataclass(frozen=True)
class NewOrder:
    """An order to be made. Money is integer minor units of ``currency``."""

    id: uuid.UUID
    customer: str
    currency: str
    lines: tuple[Line, ...]

    @property
    def total_minor(self) -> int:
        return sum(line.quantity * line.unit_price_minor for line in self.lines)


@dataclass(frozen=True)
class StatusChange:
    """To ``status``, if the order still is at ``version``."""

    status: str
    version: int


@dataclass(frozen=True)
class Page:
    """At most ``limit`` orders, newest first, beginning below the id ``after``."""

    limit: int = DEFAULT_PAGE
    after: uuid.UUID | None = None
    status: str | None = None


def parse_json(body: str | bytes | None) -> Any:
    """The JSON value of ``body``."""
    if not body:
        raise Invalid("the body is empty")
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if len(raw) > MAX_BODY_BYTES:
        raise TooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
    try:
        return json.loads(raw.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Invalid("the body is not JSON") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities are Python's, not JSON's


def parse_order(value: Any, *, make_id: uuid.UUID | None) -> NewOrder:
    """An order. With ``make_id`` it gets that id and may not bring one; without, it has to bring its own."""
    fields = {"customer", "currency", "lines"} | (set() if make_id else {"id"})
    reasons = _field_reasons(value, fields)
    if reasons:
        raise Invalid(*reasons)
    order_id = make_id or _collect(reasons, parse_id, value["id"], "id")
    customer = _collect(reasons, _text, value["customer"], "customer")
    currency = _collect(reasons, _currency, value["currency"], "currency")
    lines = _collect(reasons, _lines, value["lines"], "lines")
    if reasons:
        raise Invalid(*reasons)
    order = NewOrder(order_id, customer, currency, lines)
    if order.total_minor > MAX_TOTAL_MINOR:
        raise Invalid(f"the total is more than {MAX_TOTAL_MINOR} minor units")
    return order


def parse_status_change(value: Any) -> StatusChange:
    """A change of status."""
    reasons = _field_reasons(value, {"status", "version"})
    if reasons:
        raise Invalid(*reasons)
    if value["status"] not in tuple(ARRIVES_FROM):  # a tuple compares, where a dict would hash what came
        reasons.append(f"status is none of {', '.join(ARRIVES_FROM)}")
    version = _collect(reasons, lambda v, name: _whole(v, name, 1, MAX_VERSION), value["version"], "version")
    if reasons:
        raise Invalid(*reasons)
    return StatusChange(value["status"], version)


def parse_page(query: Mapping[str, str]) -> Page:
    """The page that a query string asks for."""
    reasons = [f"{name} is not a parameter" for name in sorted(query.keys() - {"limit", "after", "status"})]
    limit, after, status = query.get("limit"), query.get("after"), query.get("status")
    if limit is not None and not (_SHORT_NUMBER.fullmatch(limit) and int(limit) <= MAX_PAGE):
        reasons.append(f"limit is not a whole number from 1 to {MAX_PAGE}")
    if status is not None and status not in STATUSES:
        reasons.append(f"status is none of {', '.join(STATUSES)}")
    after_id = _collect(reasons, parse_id, after, "after") if after is not None else None
    if reasons:
        raise Invalid(*reasons)
    return Page(limit=int(limit) if limit else DEFAULT_PAGE, after=after_id, status=status)


def parse_id(value: Any, name: str = "id") -> uuid.UUID:
    """A UUID in its canonical form: ``uuid.UUID`` alone would take braces, prefixes and missing hyphens too."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise Invalid(f"{name} is not a UUID")
    return uuid.UUID(value)


def parse_key(value: str) -> str:
    """An idempotency key: anything visible, as its maker likes."""
    if not _KEY.fullmatch(value):
        raise Invalid(f"idempotency-key is not 1 to {MAX_KEY_CHARS} visible ASCII characters")
    return value


def _field_reasons(value: Any, fields: set[str]) -> list[str]:
    if not isinstance(value, dict):
        return ["the body is not a JSON object"]
    missing = [f"{name} is missing" for name in sorted(fields - value.keys())]
    unknown = [f"{name[:64]!r} is not a field" for name in sorted(value.keys() - fields)]
    return missing + unknown


def _collect(reasons: list[str], parse: Any, value: Any, name: str) -> Any:
    """``parse(value, name)``, or None with its reasons added to ``reasons``."""
    try:
        return parse(value, name)
    except Invalid as invalid:
        reasons.extend(invalid.reasons)
        return None


def _text(value: Any, name: str) -> str:
    # A lone surrogate cannot be sent as UTF-8, and PostgreSQL's text holds no NUL.
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT_CHARS:
        raise Invalid(f"{name} is not a text of 1 to {MAX_TEXT_CHARS} characters")
    if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise Invalid(f"{name} holds a character that no text may hold")
    return value


def _currency(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _CURRENCY.fullmatch(value):
        raise Invalid(f"{name} is not a code of three capital letters (ISO 4217)")
    return value


def _whole(value: Any, name: str, low: int, high: int) -> int:
    # JSON's true is Python's 1.
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Invalid(f"{name} is not a whole number from {low} to {high}")
    return value


def _lines(value: Any, name: str) -> tuple[Line, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LINES:
        raise Invalid(f"{name} is not a list of 1 to {MAX_LINES}")
    reasons: list[str] = []
    lines = [_collect(reasons, _line, item, f"{name}[{index}]") for index, item in enumerate(value)]
    if reasons:
        raise Invalid(*reasons)
    return tuple(lines)


def _line(value: Any, name: str) -> Line:
    reasons = [f"{name}: {reason}" for reason in _field_reasons(value, {"sku", "quantity", "unit_price_minor"})]
    if reasons:
        raise Invalid(*reasons)
    sku = _collect(reasons, _text, value["sku"], f"{name}.sku")
    quantity = _collect(reasons, lambda v, n: _whole(v, n, 1, MAX_QUANTITY), value["quantity"], f"{name}.quantity")
    price = _collect(
        reasons,
        lambda v, n: _whole(v, n, 0, MAX_PRICE_MINOR),
        value["unit_price_minor"],
        f"{name}.unit_price_minor",
    )
    if reasons:
        raise Invalid(*reasons)
    return Line(sku, quantity, price)
