"""docs/run/errors.md says of every failure what to do."""

from __future__ import annotations

import re
from pathlib import Path

import db

DOCUMENT = Path(__file__).parents[2] / "docs" / "run" / "errors.md"
SECTIONS = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=^##|\Z)", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE))
ERRORS = {name for name in db.__all__ if name.endswith("Error")} - {"DbError"}  # DbError is the root: nothing raises it


def test_every_error_and_every_verdict_has_a_section() -> None:
    """And no section is of one that is gone."""
    assert SECTIONS.keys() == ERRORS | {verdict.name for verdict in db.Verdict}


def test_every_section_says_something() -> None:
    """A heading alone helps nobody."""
    assert [name for name, text in SECTIONS.items() if len(text.split()) < 10] == []
