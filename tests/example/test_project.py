"""What the devkit makes of the example's template and table."""

from __future__ import annotations

from pathlib import Path

from devkit.app.project import Project


def test_the_example_is_an_application_like_any_other() -> None:
    """Its table holds the database's name; its three roles are those of its parameters."""
    found = Project.find(Path(__file__))
    assert (found.database, found.owner, set(found.roles)) == ("orders", "owner", {"app", "report", "owner"})
