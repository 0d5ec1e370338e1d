"""What the results say on the project's pages, between markers: nobody copies a figure by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .gains import gains
from .table import targets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .series import Result

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "benchmarks.md"
README = ROOT / "README.md"

BLOCKS: tuple[tuple[Path, str, Callable[[Mapping[str, Result]], str]], ...] = (
    (PAGE, "gains", gains),
    (PAGE, "benchmarks", targets),
    (README, "gains", gains),
)


def show(results: Mapping[str, Result]) -> None:
    """Write every block anew."""
    for page, name, made in BLOCKS:
        page.write_text(replaced(page.read_text(), name, made(results)))


def replaced(text: str, name: str, block: str) -> str:
    """``text`` with ``block`` between the markers of ``name``. Raises ValueError where it has none."""
    before, begin, rest = text.partition(_begin(name))
    _, end, after = rest.partition(_end(name))
    if not (begin and end):
        raise ValueError(f"there is no block {name}")
    return f"{before}{begin}\n\n{block.strip()}\n\n{end}{after}"


def shown(text: str, name: str) -> str:
    """What ``text`` has there."""
    return text.partition(_begin(name))[2].partition(_end(name))[0].strip()


def _begin(name: str) -> str:
    return f"<!-- {name} -->"


def _end(name: str) -> str:
    return f"<!-- /{name} -->"
