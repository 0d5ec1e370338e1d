"""Functions behind an alias, where the file has ``[versions]``: for SnapStart, and for deploys that shift by and by.

Both take published *versions* of a function, and an alias that its events call. SAM makes them of a property of each
function, ``AutoPublishAlias``, which takes no condition, so no parameter of a template can switch it. And SAM publishes
a version where the template's text or the code has changed: not where a parameter gets another value, and not where a
layer was built anew. The alias would go on calling what was there before, and the deploy would succeed.
https://github.com/aws/serverless-application-model/issues/3820

Who deploys knows the values and the artifacts. So the lines go into what `sam build` has made, with a digest of all
that a function is made of; for the length of the deploy, for by hand another value would come with the same digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.app.errors import ProjectError
from devkit.app.intrinsics import section
from devkit.app.runtime import FUNCTION, LAYER
from devkit.app.sam_cli import BUILT
from devkit.app.template import Template

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

    from .target import Target

ALIAS = "live"
# CodeDeploy's own, less AllAtOnce, which shifts nothing by and by.
GRADUAL = (
    *("Canary10Percent5Minutes", "Canary10Percent10Minutes", "Canary10Percent15Minutes", "Canary10Percent30Minutes"),
    *("Linear10PercentEvery1Minute", "Linear10PercentEvery2Minutes"),
    *("Linear10PercentEvery3Minutes", "Linear10PercentEvery10Minutes"),
)
SNAPSTART = ("None", "PublishedVersions")
ALARM = "AWS::CloudWatch::Alarm"
APIS = ("AWS::Serverless::HttpApi", "AWS::Serverless::Api")
# https://docs.aws.amazon.com/codedeploy/latest/userguide/monitoring-create-alarms.html
MOST_ALARMS = 10
KEYS = ("SnapStart", "GradualDeploy", "Alarms")
# SAM names a version by so many letters of it, and adds all of it to the function's description.
DIGEST, DIGEST_LETTERS = "AutoPublishCodeSha256", 10


@dataclass(frozen=True)
class Versions:
    """What ``[versions]`` asks for; false where that is nothing."""

    snapstart: bool = False
    gradual: str = ""
    alarms: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.snapstart or bool(self.gradual)

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Versions:
        """Of the values in the file, which ``problems`` has found nothing in."""
        return cls(
            snapstart=given.get("SnapStart") == "PublishedVersions",
            gradual=given.get("GradualDeploy", ""),
            alarms=tuple(name for name in given.get("Alarms", "").split(",") if name),
        )

    def properties(self, digest: str) -> dict[str, Any]:
        """What a function says of it to SAM."""
        said: dict[str, Any] = {
            "AutoPublishAlias": ALIAS,
            DIGEST: digest,
            # SAM's default is to keep them, for ever. After an update that was rolled back, the next try would be
            # refused: "A version for this Lambda function exists".
            "VersionDeletionPolicy": "Delete",
        }
        if self.snapstart:
            said["SnapStart"] = {"ApplyOn": "PublishedVersions"}
        if self.gradual:
            alarms = [{"Ref": name} for name in self.alarms]
            said["DeploymentPreference"] = {"Type": self.gradual, "Alarms": alarms}
        return said


def problems(target: Target, template: Template) -> list[str]:
    """What is wrong with the file's own lines, in a sentence each."""
    where, given = f"{target.file}: versions", target.versions
    found = [f"{where}.{name} is no key; the keys are {', '.join(KEYS)}" for name in given if name not in KEYS]
    for name, allowed in (("SnapStart", SNAPSTART), ("GradualDeploy", GRADUAL)):
        if name in given and given[name] not in allowed:
            found.append(f"{where}.{name}: {given[name]!r} is none of {', '.join(allowed)}")
    asked = Versions.of(given)
    if asked.gradual and not asked.alarms:
        found.append(
            f"{where}.Alarms names none of the template's alarms: a gradual deploy would not stop for anything"
        )
    if len(asked.alarms) > MOST_ALARMS:
        found.append(f"{where}.Alarms names {len(asked.alarms)} alarms, and CodeDeploy takes {MOST_ALARMS}")
    alarms = [name for name, resource in template.resources.items() if resource.get("Type") == ALARM]
    found += [
        f"{where}.Alarms: the template has no alarm {name}; it has {', '.join(alarms) or 'none'}"
        for name in asked.alarms
        if name not in alarms
    ]
    if asked:
        found += [
            f"{where}: {name} is an image, and nobody here knows whether one has changed: say AutoPublishAlias of it in"
            f" {template.path.name} itself"
            for name in takers(template)
            if "ImageUri" in (own := section(template.resources[name], "Properties"))
            or own.get("PackageType") == "Image"
        ]
    if asked.gradual:
        for name in asked.alarms:
            found += [
                f"{where}.Alarms: {name} looks at {api}, which leads to the alias, which would wait for the alarm;"
                " CloudFormation refuses the circle"
                for api in sorted(_looked_at(name, template) & _apis(template))
            ]
    return found


def _apis(template: Template) -> set[str]:
    """What SAM makes to refer to the alias of a function that it calls."""
    return {name for name, resource in template.resources.items() if resource.get("Type") in APIS}


def _looked_at(name: str, template: Template) -> set[str]:
    """All resources that this one refers to, and those that they refer to. What calls a function is none of them."""
    found: set[str] = set()
    waiting = {name} & template.resources.keys()
    while waiting:
        resource = template.resources[waiting.pop()]
        own = {key: value for key, value in section(resource, "Properties").items() if key != "Events"}
        text = json.dumps({**resource, "Properties": own}, default=str)
        named = {one for one in template.resources if re.search(rf'["{{]{one}[".}}]', text)}
        waiting |= named - found
        found |= named
    return found


@contextlib.contextmanager
def published(target: Target, values: Mapping[str, str]) -> Generator[None]:
    """While it lasts, `sam deploy` makes what the file asks for of what `sam build` has left."""
    asked = Versions.of(target.versions)
    path = target.root / BUILT / "template.yaml"
    if not asked:
        yield
        return
    # Whenever it is interrupted, what stands there is one of the two in whole.
    aside, draft = (path.with_name(f"{path.name}.{what}") for what in ("built", "draft"))
    try:
        shutil.copy2(path, aside)
        draft.write_text(json.dumps(behind_an_alias(Template(path), asked, values), default=str))
    except OSError as error:
        raise ProjectError(f"{path}: {error}") from error
    try:
        draft.replace(path)
        yield
    finally:
        aside.replace(path)


def takers(template: Template) -> list[str]:
    """The functions that are put behind an alias: all but those that have one, and those that the deploy calls.

    CloudFormation calls the newest code of a function behind a custom resource, before that of the others is replaced.
    """
    shared = section(section(template.content, "Globals"), "Function")
    called = template.called_at_deploy()
    return [
        name
        for name, resource in template.resources.items()
        if resource.get("Type") == FUNCTION
        and name not in called
        and "AutoPublishAlias" not in {**shared, **section(resource, "Properties")}
    ]


def snapped(template: Template) -> list[str]:
    """Those of them that get SnapStart: all that say nothing of it themselves."""
    return [name for name in takers(template) if "SnapStart" not in section(template.resources[name], "Properties")]


def behind_an_alias(built: Template, asked: Versions, values: Mapping[str, str]) -> dict[str, Any]:
    """The template with what ``asked`` takes, in each function that is put behind an alias."""
    content = built.content
    everyones = json.dumps([content, dict(values)], sort_keys=True, default=str)
    layers = [_digest(path) for path in _artifacts(built, LAYER, "ContentUri").values()]
    code = _artifacts(built, FUNCTION, "CodeUri")
    resources = dict(built.resources)
    for name in takers(built):
        parts = [name, everyones, *layers, *([_digest(code[name])] if name in code else [])]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:DIGEST_LETTERS]
        resource = built.resources[name]
        own = section(resource, "Properties")
        # What a function says of itself in the template is more particular than the file.
        resources[name] = {**resource, "Properties": {**asked.properties(digest), **own, DIGEST: digest}}
    return {**content, "Resources": resources}


def _artifacts(built: Template, kind: str, key: str) -> dict[str, Path]:
    found = {
        name: built.path.parent / said
        for name, resource in built.resources.items()
        if resource.get("Type") == kind and isinstance(said := section(resource, "Properties").get(key), str)
    }
    return {name: path for name, path in found.items() if path.exists()}


def _digest(artifact: Path) -> str:
    """Of a folder with all that is in it, or of a file, as a zip that somebody else has made."""
    digest = hashlib.sha256()
    for path in _files(artifact):
        digest.update(f"{path.relative_to(artifact)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(artifact: Path) -> Iterator[Path]:
    return (path for path in (artifact, *sorted(artifact.rglob("*"))) if path.is_file())
