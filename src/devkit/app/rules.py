"""A template's Rules, which compare parameters with one another.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .intrinsics import Intrinsics, section

if TYPE_CHECKING:
    from collections.abc import Mapping


def violated(template: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    """What each assertion that does not hold says of itself, less a full stop, with ``values`` for the parameters."""
    known = Intrinsics(template, values)
    return [
        assertion.get("AssertDescription", name).rstrip(".")
        for name, rule in section(template, "Rules").items()
        if "RuleCondition" not in rule or known.holds(rule["RuleCondition"])
        for assertion in rule["Assertions"]
        if not known.holds(assertion["Assert"])
    ]
