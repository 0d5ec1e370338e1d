"""What a deploy would be refused for: by a template's own Rules, or by Lambda, of what a function cannot have at once.

Rules compare parameters with one another:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/rules-section-structure.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .intrinsics import Intrinsics, section
from .runtime import FUNCTION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

NO_VALUE = {"Ref": "AWS::NoValue"}
# MB of /tmp, which a snapshot takes no more of.
SNAPSHOT_STORAGE_MB = 512
OLDEST_SNAPSHOT = (3, 12)
_HEADER = "which takes the tenant from the header X-Amz-Tenant-Id"


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


def excluded(template: Mapping[str, Any], values: Mapping[str, str], snapstart: Collection[str] = ()) -> list[str]:
    """What Lambda would not serve of each function, in a sentence each; those in ``snapstart`` are to have SnapStart.

    SAM says some of it, after an upload, Lambda some more, in the middle of a deploy; and an HTTP API in front of a
    function that isolates tenants is deployed, and fails at each call.
    """
    known, shared = Intrinsics(template, values), section(section(template, "Globals"), "Function")
    found: list[str] = []
    for name, resource in section(template, "Resources").items():
        if resource.get("Type") == FUNCTION:
            own = {key: known.chosen(value) for key, value in {**shared, **section(resource, "Properties")}.items()}
            said = {key: value for key, value in own.items() if value and value != NO_VALUE}
            apply_on = known.text_or_none(section(said, "SnapStart").get("ApplyOn", "None"))
            snaps = name in snapstart or apply_on == "PublishedVersions"
            found += [f"{name}: {why}" for why in _excluded_by_tenancy(said, snaps=snaps)]
            found += [f"{name}: {why}" for why in _excluded_by_snapstart(said, known) if snaps]
    return found


# https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html and tenant-isolation-invoke.html
def _excluded_by_tenancy(said: Mapping[str, Any], *, snaps: bool) -> Iterator[str]:
    if "TenancyConfig" not in said:
        return
    beside = {"SnapStart": snaps}
    beside |= {key: key in said for key in ("ProvisionedConcurrencyConfig", "FunctionUrlConfig")}
    yield from (f"TenancyConfig excludes {key}" for key, there in beside.items() if there)
    for event, source in section(said, "Events").items():
        match source.get("Type"):
            case "Api":  # can map the header
                continue
            case "HttpApi":
                yield f"the event {event} is an HTTP API, which cannot call a function with TenancyConfig, {_HEADER}"
            case kind:
                yield f"the event {event} ({kind}) names no tenant to a function with TenancyConfig, {_HEADER}"


# https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html
def _excluded_by_snapstart(said: Mapping[str, Any], known: Intrinsics) -> Iterator[str]:
    for key in ("ProvisionedConcurrencyConfig", "FileSystemConfigs"):
        if key in said:
            yield f"SnapStart excludes {key}"
    size = known.text_or_none(section(said, "EphemeralStorage").get("Size", SNAPSHOT_STORAGE_MB)) or ""
    if size.isdecimal() and int(size) > SNAPSHOT_STORAGE_MB:
        yield f"SnapStart takes an EphemeralStorage of {SNAPSHOT_STORAGE_MB} at most, and not of {size}"
    if said.get("PackageType") == "Image" or "ImageUri" in said:
        yield "SnapStart takes no images"
    runtime = known.text_or_none(said.get("Runtime", "")) or ""
    version = runtime.removeprefix("python").split(".")
    if runtime.startswith("python") and tuple(int(part) for part in version if part.isdecimal()) < OLDEST_SNAPSHOT:
        yield f"SnapStart takes Python from {'.'.join(map(str, OLDEST_SNAPSHOT))} on, and not {runtime}"
