"""The releases that a rehearsal makes of a built application."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devkit.app.project import Project
from devkit.app.sam_cli import BUILT
from devkit.rehearsal import releases

if TYPE_CHECKING:
    from pathlib import Path

REVISIONS = {"first": None, "second": "first"}


def built(root: Path, revision: str = "second") -> Project:
    """An application as `sam build` leaves it, with two revisions; a custom resource names ``revision``."""
    functions: dict[str, Any] = {
        name: {
            "Type": "AWS::Serverless::Function",
            "Properties": {"Runtime": "python3.13", "Handler": "app.handler", "CodeUri": name},
        }
        for name in ("Migrate", "Serve")
    }
    migration = {
        "Type": "Custom::Schema",
        "Properties": {"ServiceToken": {"Fn::GetAtt": ["Migrate", "Arn"]}, "Newest": revision, "Other": "x"},
    }
    build = root / ".aws-sam/build"
    for folder in (root, build):
        for name in functions:
            (folder / name).mkdir(parents=True)
            (folder / name / "app.py").write_text("def handler(event, context): ...\n")
        template = {"Resources": {**functions, "Schema": migration}}
        (folder / "template.yaml").write_text(json.dumps(template))
    versions = build / "Migrate/alembic/versions"
    versions.mkdir(parents=True)
    for name, before in REVISIONS.items():
        # Never run: what it imports may be nowhere.
        text = f'import nowhere\nrevision: str = "{name}"\ndown_revision: str | None = {before!r}\n'
        (versions / f"{name}.py").write_text(text)
    return Project.at(root)


def files(release: releases.Release) -> dict[str, str]:
    return {
        str(path.relative_to(release.folder / BUILT)): path.read_text()
        for path in release.folder.rglob("*")
        if path.is_file()
    }


def test_the_migrations_are_found_by_the_resource_that_names_the_newest(tmp_path: Path) -> None:
    """Without running one of them."""
    found = releases.first(built(tmp_path / "app"), tmp_path / "release-1").migrations
    assert found is not None
    assert (found.resource, found.property, found.newest) == ("Schema", "Newest", "second")


def test_a_resource_that_names_no_revision_brings_no_migration(tmp_path: Path) -> None:
    """CloudFormation would not call it again for the next one."""
    assert releases.first(built(tmp_path / "app", revision="first"), tmp_path / "release-1").migrations is None


def test_the_next_release_differs_in_each_function_and_the_one_before_stays(tmp_path: Path) -> None:
    """They share the files that they have in common, so a file of one must not be written through to the other."""
    first = releases.first(built(tmp_path / "app"), tmp_path / "release-1")
    before = files(first)
    second = first.next("SELECT 'a'")
    after = files(second)
    assert files(first) == before
    assert {name for name in after if after[name] != before.get(name)} == {
        *("Migrate/rehearsal.txt", "Serve/rehearsal.txt", "template.yaml"),
        "Migrate/alembic/versions/rehearsal_2.py",
    }
    assert json.loads(after["template.yaml"])["Resources"]["Schema"]["Properties"]["Newest"] == second.revision
    third = files(second.next())
    assert {name for name in third if third[name] != after[name]} == {"Migrate/rehearsal.txt", "Serve/rehearsal.txt"}


def test_a_revision_follows_the_newest(tmp_path: Path) -> None:
    """Its statement is the one that was given, whatever is in it."""
    second = releases.first(built(tmp_path / "app"), tmp_path / "release-1").next("SELECT '%' \"x\"")
    (path,) = (path for path in second.folder.rglob("rehearsal_2.py"))
    ran: list[str] = []
    text = path.read_text().replace("from alembic import op", "")
    module: dict[str, Any] = {"op": type("Op", (), {"execute": staticmethod(ran.append)})}
    exec(text, module)  # noqa: S102 - what the kit has written
    module["upgrade"]()
    assert (module["revision"], module["down_revision"], ran) == ("rehearsal_2", "second", ["SELECT '%' \"x\""])
