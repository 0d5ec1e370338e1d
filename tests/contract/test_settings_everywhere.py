"""The settings are said once; whatever names them agrees."""

from __future__ import annotations

import re
from pathlib import Path

from db.settings import FLAGS, PREFIX, fields
from devkit.app.project import Project
from devkit.settings_table import as_markdown

ROOT = Path(__file__).parents[2]
NAMES = {PREFIX + f.name.upper() for f in fields()}
# Names that look like settings of ours and are not, as the page on settings and the table of such names have them.
OTHERS = {"DB_BACKUP_BUCKET", "DB_JSON_SERIALIZER", "DB_PASSWORD", "DB_SECRET_ARN"}


def test_the_documented_table_is_the_table() -> None:
    """docs/reference/settings.md holds what ``python -m devkit settings`` prints."""
    assert as_markdown() in (ROOT / "docs" / "reference" / "settings.md").read_text()


def test_the_documented_words_for_a_boolean_are_all() -> None:
    """The page's introduction has each, and no setting of another kind is true or false by default."""
    introduction, _, _ = (ROOT / "docs" / "reference" / "settings.md").read_text().partition("\n| ")
    assert [word for word in FLAGS if f"`{word}`" not in introduction] == []
    assert {f.metadata["kind"].types for f in fields() if isinstance(f.default, bool)} == {(bool,)}


def test_each_choice_stands_in_the_documented_table() -> None:
    """Of every setting that is one word of a few."""
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", as_markdown(), re.MULTILINE))
    choices = {PREFIX + f.name.upper(): f.metadata["kind"].names for f in fields() if f.metadata["kind"].names}
    assert choices["DB_PROXY"] == ("none", "pgbouncer", "rds-proxy")
    assert [name for name, words in choices.items() if not all(f"`{word}`" in rows[name] for word in words)] == []


def test_the_template_sets_only_what_exists() -> None:
    """For every function."""
    for function in Project.find(ROOT).functions().values():
        named = {name for name in function.environment if name.startswith(PREFIX)}
        assert named <= NAMES, function.name


def test_every_document_names_only_what_exists() -> None:
    """README, docs and docstrings; a renamed setting leaves no trace of its old name."""
    files = [ROOT / "README.md", ROOT / "template.yaml", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    for path in files:
        named = set(re.findall(r"\bDB_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
        assert named <= NAMES | OTHERS | {"DB_X_Y"}, path.name
