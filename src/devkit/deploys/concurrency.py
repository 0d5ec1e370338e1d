"""Whether an account has room for the concurrency that a template reserves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.app.intrinsics import section

from .asking import asking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .target import Target

# Lambda refuses a reservation that would leave fewer to the functions without one.
STAYS = 100
PARAMETER = "ReserveConcurrency"
QUOTA = (
    "aws service-quotas request-service-quota-increase"
    " --service-code lambda --quota-code L-B99A9384 --desired-value 1000"
)


@dataclass(frozen=True)
class Room:
    """An account's limit on environments at once, and how much of it no function has reserved."""

    limit: int
    unreserved: int

    def takes(self, reserved: int) -> bool:
        """Whether a stack that is not there yet may reserve ``reserved``."""
        return reserved == 0 or self.unreserved - reserved >= STAYS


def room(client: Any, target: Target) -> Room:
    """Raises ProjectError where the account may not be asked."""
    with asking("lambda:GetAccountSettings", target):
        limits = client.get_account_settings()["AccountLimit"]
    return Room(limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"])


def reserved(template: Mapping[str, Any]) -> int:
    """The sum of all reservations in ``template``, with the larger branch of each condition."""
    return sum(max(_numbers(one), default=0) for one in _reservations(template.get("Resources", {}).values()))


def _reservations(resources: Any) -> Iterator[Any]:
    for resource in resources:
        yield section(resource, "Properties").get("ReservedConcurrentExecutions", 0)


def _numbers(value: Any) -> Iterator[int]:
    if str(value).isdecimal():  # YAML's, or a text
        yield int(value)
    elif isinstance(value, dict):
        for inner in value.get("Fn::If", [])[1:]:
            yield from _numbers(inner)
