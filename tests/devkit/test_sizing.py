"""docs/run/sizing.md says what the stored simulations came to."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from db.settings import Settings
from devkit.simulate import validate
from devkit.simulate.plot import plot
from devkit.simulate.questions import QUESTIONS, full, stored
from devkit.simulate.scenario import settings

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
PAGE = (ROOT / "docs/run/sizing.md").read_text()
ANSWERS = {one.name: one for one in stored(RESULTS)}


def test_every_question_has_its_answer_in_the_page() -> None:
    """The tables, as `python -m devkit simulate --questions` prints them."""
    assert ANSWERS.keys() == QUESTIONS.keys()
    assert [name for name, one in ANSWERS.items() if one.as_markdown() not in PAGE] == []


def test_the_pictures_are_those_of_the_answers() -> None:
    """And each is shown."""
    drawn = {f"sizing-{name}.svg": one for name, one in ANSWERS.items() if one.curves}
    assert {path.name for path in (ROOT / "docs/run").glob("sizing-*.svg")} == drawn.keys()
    for file, one in drawn.items():
        assert (ROOT / "docs/run" / file).read_text() == plot(one.title, one.curves, x=one.x, y=one.y)
        assert f"({file})" in PAGE


def test_the_figures_of_the_prose_are_in_the_tables() -> None:
    """They are the bold ones."""
    cells = {cell for one in ANSWERS.values() for row in one.rows for cell in row}
    figures = re.findall(r"\*\*([^*]+)\*\*", PAGE)
    assert len(figures) > 10
    assert set(figures) - cells == set()


def test_the_same_command_comes_to_the_same_answer() -> None:
    """The shortest of them, by the seed that was stored; a tuple is a list in JSON."""
    seed = json.loads((RESULTS / "sizing.json").read_text())["seed"]
    assert json.loads(json.dumps(asdict(full(seed)))) == asdict(ANSWERS["full"])


def test_the_page_says_how_far_the_simulation_is_from_the_fleet() -> None:
    """As it was stored, with what is out of range."""
    assert validate.as_markdown(validate.stored(RESULTS)) in PAGE


@pytest.mark.parametrize("name", ["pool", "pool_size", "pool_recycle_s", "pool_idle_s", "connect_wait_s"])
def test_the_page_speaks_of_the_defaults_that_there_are(name: str) -> None:
    """A simulation that says nothing has them as well."""
    default = getattr(Settings(url="postgresql://app@localhost/app"), name)
    assert getattr(settings(), name) == default
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    assert f"| `DB_{name.upper()}` | {shown} |" in PAGE
