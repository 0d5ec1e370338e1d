"""A SAM application in a folder: its template, its events, and the database and roles that it is to find.

What the template says is read there; ``[tool.devkit]`` says the rest (``pyproject``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import catalogue, pyproject
from .errors import ProjectError
from .template import Template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .catalogue import Case
    from .template import Function

TEMPLATES = ("template.yaml", "template.yml", "template.json")
SECRET_VARIABLE = "DB_SECRET_ID"  # noqa: S105 - a variable's name
NAME_VARIABLE = "DB_NAME"
DATABASE = "app"
OWNER = "owner"
MOST_BYTES = 63  # of a name in PostgreSQL
RESERVED = re.compile(r"postgres|template[01]|pg_.*|public|none")


@dataclass(frozen=True)
class Project:
    """The application in ``root``. ``Project.find()`` and ``Project.at(root)`` make one.

    ``secrets`` has the role for each name that a function's DB_SECRET_ID refers to, ``roles`` all that the database is
    to have, ``owner`` among them. ``parameters`` and ``variables`` are those of ``[tool.devkit]``.
    """

    root: Path
    template: Template
    events: Path
    database: str
    owner: str
    roles: tuple[str, ...]
    secrets: Mapping[str, str]
    parameters: Mapping[str, str]
    variables: Mapping[str, str]

    @classmethod
    def find(cls, inside: Path | None = None, *, runtime: str | None = None) -> Project:
        """The project that the folder or file ``inside`` belongs to, by default the current folder.

        Its root is the nearest folder upward with a template or a ``[tool.devkit]``. Raises ProjectError where there is
        none, or where it cannot be used. ``runtime`` is the template's (``Template``).
        """
        start = (inside or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (found := cls._in(folder, runtime)) is not None:
                return found
        raise ProjectError(f"no {TEMPLATES[0]} in {start} or above it: --root names the folder of a SAM application")

    @classmethod
    def at(cls, root: Path, *, runtime: str | None = None) -> Project:
        """The project in the folder ``root``. Raises ProjectError where there is none, or where it cannot be used."""
        found = cls._in(root.resolve(), runtime)
        if found is None:
            raise ProjectError(f"no {TEMPLATES[0]} in {root.resolve()}, which is to be the folder of a SAM application")
        return found

    @classmethod
    def _in(cls, folder: Path, runtime: str | None) -> Project | None:
        table = pyproject.read(folder)
        if table is None and not any((folder / name).is_file() for name in TEMPLATES):
            return None
        return cls._read(folder, table or pyproject.DevkitTable(), runtime)

    @classmethod
    def _read(cls, root: Path, table: pyproject.DevkitTable, runtime: str | None) -> Project:
        names = TEMPLATES if table.template is None else (table.template,)
        path = next((root / name for name in names if (root / name).is_file()), None)
        if path is None:
            raise ProjectError(f"{root / pyproject.FILE}: {pyproject.TABLE}.template: no file {' or '.join(names)}")
        template = Template(path, table.parameters, runtime)
        functions = template.functions()
        secrets = _secrets(template, functions, table)
        roles = dict.fromkeys([*secrets.values(), *table.roles])
        owner = table.owner or _owner(template, functions, secrets, list(roles))
        project = cls(
            root=root,
            template=template,
            events=root / table.events,
            database=table.database or _database(functions),
            owner=owner,
            roles=tuple(dict.fromkeys([*roles, owner])),
            secrets=secrets,
            parameters=table.parameters,
            variables=table.variables,
        )
        project._check()
        return project

    def functions(self, given: Mapping[str, str] | None = None) -> dict[str, Function]:
        """The functions by logical id, with ``given`` over the parameters of ``[tool.devkit]``."""
        return self.template.functions(given)

    def role(self, function: Function) -> str | None:
        """The role that ``function`` enters the database as; None where it does not."""
        return self.secrets.get(function.name) or self.secrets.get(secret_of(self.template, function))

    def cases(self) -> list[Case]:
        """What is to be sent to the functions, in order. Raises ProjectError."""
        return catalogue.read(self.events, self.template)

    def _check(self) -> None:
        """Names that PostgreSQL would refuse, and parameters that nobody declares."""
        where = f"{self.root / pyproject.FILE}: {pyproject.TABLE}"
        problems = [
            f"{where}.{key} has to give another name than {name!r}, which is reserved, empty or over {MOST_BYTES} bytes"
            for key, names in (("database", [self.database]), ("secrets (or owner, or roles)", self.roles))
            for name in names
            if not name or RESERVED.fullmatch(name) or len(name.encode()) > MOST_BYTES
        ]
        problems += [
            f"{where}.parameters.{name}: {self.template.path.name} has no such parameter"
            for name in self.parameters
            if name not in self.template.parameters
        ]
        problems += [
            f"{where}.secrets.{function.name}: the role that it enters as, for its template gives it no DB_SECRET_ID"
            for function in self.functions().values()
            if self.role(function) is None and _enters_otherwise(function)
        ]
        if problems:
            raise ProjectError("; ".join(problems))


def secret_of(template: Template, function: Function) -> str:
    """What the function's DB_SECRET_ID refers to; empty where it has none."""
    value = function.variables.get(SECRET_VARIABLE, "")
    return template.intrinsics().reference(value)


def _enters_otherwise(function: Function) -> bool:
    """Whether it would go to a database by an address or a token, which is not here."""
    url = function.environment.get("DB_URL", "")
    elsewhere = bool(url) and not url.startswith("sqlite")
    return elsewhere or "DB_URL" in function.unknown or bool(function.environment.get("DB_AUTH"))


def _secrets(template: Template, functions: Mapping[str, Function], table: pyproject.DevkitTable) -> dict[str, str]:
    referred = {one.name: secret_of(template, one) for one in functions.values()}
    known = {*referred.values(), *template.parameters, *template.resources}
    if unknown := table.secrets.keys() - known:
        raise ProjectError(
            f"{pyproject.FILE}: {pyproject.TABLE}.secrets.{min(unknown)}: {template.path.name} has no such parameter,"
            f" resource or DB_SECRET_ID; those refer to {', '.join(sorted({*referred.values()} - {''})) or 'nothing'}"
        )
    derived = {name: role_for(name) for function, name in referred.items() if name and function not in table.secrets}
    return derived | dict(table.secrets)


def role_for(secret: str) -> str:
    """The role that a secret lets in, by what refers to it: ``AppSecretId`` and ``prod/app`` let in ``app``."""
    name = re.sub(r"-\w{6}$", "", secret) if secret.startswith("arn:") else secret
    last = re.split(r"[/:]", name.partition(".")[0])[-1]
    bare = re.sub(r"_?(secret)?_?(id|arn|name)?$", "", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last).lower())
    return re.sub(r"\W+", "_", bare).strip("_") or "app"


def _owner(template: Template, functions: Mapping[str, Function], secrets: Mapping[str, str], roles: list[str]) -> str:
    if OWNER in roles or not roles:
        return OWNER
    if len(roles) == 1:
        return roles[0]
    called = [functions[name] for name in template.called_at_deploy() if name in functions]
    at_deploy = {secrets[name] for function in called if (name := secret_of(template, function)) in secrets}
    if len(at_deploy) == 1:
        return at_deploy.pop()
    raise ProjectError(f"{pyproject.FILE}: {pyproject.TABLE}.owner: which of {', '.join(roles)} makes the tables?")


def _database(functions: Mapping[str, Function]) -> str:
    named = {function.environment.get(NAME_VARIABLE) for function in functions.values()} - {None, ""}
    return str(named.pop()) if len(named) == 1 else DATABASE
