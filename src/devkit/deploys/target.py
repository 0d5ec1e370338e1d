"""Where a deploy goes: the names of two stacks, and the user's own values, which git does not know."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.app.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "deploy"
EXAMPLE = "example.toml"
SAM = "samconfig.toml"
TEMPLATE = "template.yaml"
DATABASE_TEMPLATE = "database.yaml"
# The one whose stack has the plain name, so that `sam logs` and its like find it without being told.
FIRST = "dev"
NAME = re.compile(r"[a-z][a-z0-9-]*")
# database.yaml names its rotation functions after its stack: "-rotate-report" is 14 of the 64 that Lambda takes.
LONGEST_STACK = 50

PLACES = ("profile", "region", "account")
TABLES = ("application", "database", "versions")
_SIMPLE = (str, int, float, bool)


@dataclass(frozen=True)
class Target:
    """An application in ``root``, as it is to be, or is, in one account: ``Target.read(root, "prod")``.

    ``stack`` and ``database_stack`` are CloudFormation's names; ``application`` and ``database`` are the file's values
    for the parameters of the two templates, ``versions`` is what the module of that name makes of it. ``exists`` says
    whether there is a file.
    """

    root: Path
    name: str
    stack: str
    database_stack: str
    exists: bool
    profile: str | None = None
    region: str | None = None
    account: str | None = None
    application: Mapping[str, str] = field(default_factory=dict)
    database: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path, name: str = FIRST) -> Target:
        """Raises ProjectError with all that is wrong with the file, or with the name."""
        stack = _stack(root, name)
        path = root / FOLDER / f"{name}.toml"
        said = _read(path) if path.is_file() else None
        # The AWS command line looks there before it looks anywhere else; boto3, and so SAM, does not know it.
        region = os.environ.get("AWS_REGION") or None
        return cls(
            root, name, stack, f"{stack}-database", exists=said is not None, **{"region": region, **(said or {})}
        )

    @property
    def file(self) -> Path:
        """Of the user's own; ``make account`` copies it from the example."""
        return Path(FOLDER) / f"{self.name}.toml"

    def make(self, verb: str, *also: str) -> str:
        """The command that does ``verb`` here."""
        return " ".join(["make", verb, *([] if self.name == FIRST else [f"ENV={self.name}"]), *also])

    def check_file(self) -> None:
        """Raise ProjectError where there is no file: a name that was mistyped would be an environment of its own."""
        if not self.exists:
            raise ProjectError(f"{self.file} is not there: {self.make('account')} writes it")

    def where(self) -> list[str]:
        """What `sam` is told of the account."""
        given = {"--profile": self.profile, "--region": self.region}
        return [word for option, value in given.items() if value for word in (option, value)]


def _stack(root: Path, name: str) -> str:
    if not NAME.fullmatch(name) or name == Path(EXAMPLE).stem:
        raise ProjectError(f"ENV={name}: small letters, digits and hyphens make a name, such as {FIRST} or prod")
    path = root / SAM
    config = _toml(path)
    base = _parameters(config, "global").get("stack_name")
    if not isinstance(base, str) or not base:
        raise ProjectError(f"{path}: default.global.parameters.stack_name is to name the stack")
    if "parameter_overrides" in _parameters(config, "deploy"):
        raise ProjectError(
            f"{path}: default.deploy.parameters.parameter_overrides would have no effect:"
            f" put the values under [application] in {FOLDER}/{name}.toml"
        )
    stack = base if name == FIRST else f"{base}-{name}"
    if len(f"{stack}-database") > LONGEST_STACK:
        raise ProjectError(f"ENV={name}: the stack {stack}-database has a name of more than {LONGEST_STACK} letters")
    return stack


def _parameters(config: Mapping[str, Any], command: str) -> dict[str, Any]:
    """What samconfig.toml says for a command; empty where it says nothing that SAM would read."""
    found: Any = config
    for key in ("default", command, "parameters"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:  # no TOML, or no UTF-8
        raise ProjectError(f"{path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    content = _toml(path)
    problems = [
        f"{key} is no key; the keys are {', '.join((*PLACES, *TABLES))}"
        for key in content
        if key not in (*PLACES, *TABLES)
    ]
    problems += [
        f"{key} is not a text: {content[key]!r}"
        for key in PLACES
        if key in content and not (isinstance(content[key], str) and content[key])
    ]
    read: dict[str, Any] = {key: content[key] for key in PLACES if key in content}
    for key in TABLES:
        table = content.get(key, {})
        if not isinstance(table, dict):
            problems.append(f"{key} is not a table")
            continue
        values = {name: _text(value) for name, value in table.items()}
        problems += [
            f"{key}.{name} is neither text, number nor list of texts" for name, value in values.items() if value is None
        ]
        read[key] = values
    if problems:
        raise ProjectError(f"{path}: " + "; ".join(problems))
    return read


def _text(value: object) -> str | None:
    """As CloudFormation takes it."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)  # a template compares texts: 0.0 is to be its "0"
    return str(value) if isinstance(value, _SIMPLE) else None
