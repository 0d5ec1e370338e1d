"""The pages of docs/, as a site and as what messages point to."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.errors import DOCUMENTATION
from tests.contract.test_documents import anchors

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SITE = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
SOURCES = [
    *(ROOT / "src").rglob("*.py"),
    *(ROOT / name for name in ("pyproject.toml", "template.yaml", "src/devkit/pyproject.toml")),
]
ADDRESS = re.compile(r"(?:\{DOCUMENTATION\}|" + re.escape(DOCUMENTATION) + r")([\w/-]*)(?:#([\w-]+))?")


def named_in(entries: list[Any]) -> Iterator[str]:
    """The pages of a part of the navigation."""
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else named_in(value)


def test_the_navigation_has_every_page_once() -> None:
    """And none that is not there."""
    assert sorted(named_in(SITE["nav"])) == [str(page.relative_to(DOCS)) for page in PAGES]


def test_the_first_page_leads_to_every_other() -> None:
    """Nobody has to guess an address."""
    linked = re.findall(r"\]\(([\w/-]+\.md)\)", (DOCS / "index.md").read_text())
    assert sorted(set(linked)) == [str(page.relative_to(DOCS)) for page in PAGES if page.name != "index.md"]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """As `make docs` does it."""
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, re.sub(r"\x1b\[[\d;]*m", "", done.stderr)  # it colours each letter
    built = {str(path.relative_to(tmp_path / SITE["site_dir"])) for path in tmp_path.rglob("index.html")}
    assert len(built) == len(PAGES)


def test_the_site_stands_where_messages_look_for_it() -> None:
    """The address is said once in the code, and once in the site's own configuration."""
    assert SITE["site_url"] == DOCUMENTATION


def test_an_address_in_the_sources_is_a_page_and_a_heading_of_it() -> None:
    """A message that leads nowhere is worse than none."""
    named = {found for source in SOURCES for found in ADDRESS.findall(source.read_text())}
    pages = {(DOCS / (f"{path.strip('/')}.md" if path else "index.md"), anchor) for path, anchor in named}
    assert len(pages) > 1
    assert [page for page, anchor in pages if not page.exists() or (anchor and anchor not in anchors(page))] == []


def test_no_message_names_a_file_of_the_repository() -> None:
    """Who has installed the package has no docs/ folder."""
    sources = {path.name: path.read_text() for path in (ROOT / "src" / "db").rglob("*.py")}
    assert [name for name, source in sources.items() if re.search(r"docs/[\w/]+\.md", source)] == []
