"""The next versions of an application, made of what `sam build` has left.

A release is a folder in which `sam deploy` can be called. Each function of a later one holds a file more, so that all
of them change, and the function behind the custom resource may hold a migration more. The checkout stays as it is.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from devkit.app.intrinsics import reference, section
from devkit.app.runtime import FUNCTION
from devkit.app.sam_cli import BUILT
from devkit.app.template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devkit.app.project import Project

CONFIGURATIONS = ("samconfig.toml", "samconfig.yaml", "samconfig.yml")
MARK = "rehearsal.txt"
REVISION = '''\
"""Made up by a rehearsal."""

from alembic import op

revision = {revision!r}
down_revision = {before!r}


def upgrade() -> None:
    op.execute({statement!r})


def downgrade() -> None:
    raise NotImplementedError
'''


@dataclass(frozen=True)
class Migrations:
    """Where a release has its Alembic revisions: a folder, and the property of a resource that names the newest."""

    folder: Path
    resource: str
    property: str
    newest: str


@dataclass(frozen=True)
class Release:
    """One version in ``folder``."""

    folder: Path
    number: int
    migrations: Migrations | None

    @property
    def revision(self) -> str | None:
        """The newest that it brings."""
        return self.migrations.newest if self.migrations else None

    def next(self, statement: str | None = None) -> Release:
        """A release after this one; with ``statement``, it brings a migration that executes it."""
        number = self.number + 1
        folder = self.folder.with_name(f"release-{number}")
        # A release is told from another by a handful of files.
        shutil.copytree(self.folder, folder, copy_function=os.link)
        template = _template(folder)
        for name, code in _code(folder, template):
            _write(code / MARK, f"{name} of release {number}\n")
        made = replace(self, folder=folder, number=number)
        if statement is None or self.migrations is None:
            return made
        migrations = replace(
            self.migrations,
            folder=folder / self.migrations.folder.relative_to(self.folder),
            newest=f"rehearsal_{number}",
        )
        text = REVISION.format(revision=migrations.newest, before=self.revision, statement=statement)
        _write(migrations.folder / f"{migrations.newest}.py", text)
        content = template.content
        content["Resources"][migrations.resource]["Properties"][migrations.property] = migrations.newest
        _write(template.path, json.dumps(content, default=str))
        return replace(made, migrations=migrations)


def first(project: Project, place: Path) -> Release:
    """What `sam build` has made of the project, copied to ``place``, a folder that is not there yet."""
    shutil.copytree(project.root / BUILT, place / BUILT)
    for name in CONFIGURATIONS:
        if (project.root / name).is_file():
            shutil.copy(project.root / name, place)
    return Release(place, 1, migrations(place))


def _template(folder: Path) -> Template:
    return Template(folder / BUILT / "template.yaml")


def _code(folder: Path, template: Template) -> Iterator[tuple[str, Path]]:
    """Each function and the folder of what it is built of."""
    for name, resource in template.resources.items():
        code = folder / BUILT / str(section(resource, "Properties").get("CodeUri", ""))
        if resource.get("Type") == FUNCTION and code.is_dir() and code != folder / BUILT:
            yield name, code


def migrations(folder: Path) -> Migrations | None:
    """Those of the function that a custom resource calls again for each new revision; None where none does."""
    template = _template(folder)
    code = dict(_code(folder, template))
    for name, resource in template.resources.items():
        properties = section(resource, "Properties")
        function = reference(properties.get("ServiceToken")).partition(".")[0]
        for versions in sorted(code[function].rglob("versions")) if function in code else ():
            for newest in _heads(versions):
                for key, value in properties.items():
                    if value == newest:
                        return Migrations(versions, name, key, newest)
    return None


def _heads(versions: Path) -> set[str]:
    """The revisions that no other comes after, read without running them: what they import may not be here."""
    revisions, earlier = set(), set()
    for path in versions.glob("*.py"):
        said = dict(_assigned(ast.parse(path.read_text())))
        if isinstance(revision := said.get("revision"), str):
            revisions.add(revision)
            before = said.get("down_revision")
            earlier |= {before} if isinstance(before, str) else set(before or ())
    return revisions - earlier


def _assigned(module: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in module.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and target.id in {"revision", "down_revision"} and node.value is not None:  # type: ignore[attr-defined]
                yield target.id, ast.literal_eval(node.value)  # type: ignore[attr-defined]


def _write(path: Path, text: str) -> None:
    """A file of this release alone: the one that is there is that of the release before as well."""
    path.unlink(missing_ok=True)
    path.write_text(text)
