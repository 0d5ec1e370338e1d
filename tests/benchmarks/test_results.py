"""From samples to what is shown of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import __main__ as command
from benchmarks.cores import Where
from benchmarks.pages import BLOCKS, replaced, shown
from benchmarks.plot import panels, plot
from benchmarks.sections import SECTIONS
from benchmarks.sections.cold import OURS
from benchmarks.series import Result, Series, load
from benchmarks.table import table, targets
from benchmarks.targets import DB_BATCH, EACH_PRE_PING, NULL, PRE_PING, TARGETS, Verdict, missed
from benchmarks.works import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SVG = "{http://www.w3.org/2000/svg}"
COMMITTED = load(command.RESULTS, list(SECTIONS))


def series(peer: str, *rounds: list[float], where: str = Where.OTHER) -> Series:
    return Series(peer=peer, work=Work.WRITE, measure="cpu_us", where=where, rounds=list(rounds))


def result(*measured: Series) -> Result:
    return Result(
        section="cpu",
        made_on="2026-01-31",
        machine={"cores": 2},
        versions={"python": "3.13"},
        noise={"load": 0.1, "steal": 0.0, "others": 0.0},
        series=[*measured],
    )


def rows(measured: Result) -> list[list[str]]:
    """Those of the table of targets that tell of a transaction with one statement."""
    lines = targets({"cpu": measured}).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [line for line in cells if line[0].startswith("client CPU of `db.begin()` with one statement")]


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """With its interval, and how probable that is where the rounds are too few for the usual one."""
    ours, plain = (
        series("db", [20, 10, 900], [30, 30, 30], [44]),
        series("SQLAlchemy", [40, 40, 40], [50, 50, 50], [40]),
    )
    shown, other = rows(result(ours, plain))
    assert shown[1:] == ["0.60", "0.50 to 1.10 (75%)", "≤ 1.2", "met"]
    assert other[0].endswith(", server on the same core")
    assert other[1:] == ["", "", "", "not measured"]


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([119, 120, 120], Verdict.MET),
        ([119, 120, 121], Verdict.MET_BY_THE_MEDIAN),
        ([119, 121, 122], Verdict.MISSED),
    ],
)
def test_a_verdict_says_whether_the_interval_holds_it(ours: list[float], verdict: Verdict) -> None:
    """At the limit it is met; beyond it by the median, it is missed, whatever the interval."""
    at = {"cpu": result(series("db", *([one] for one in ours)), series("SQLAlchemy", [100], [100], [100]))}
    (target,) = [target for target in TARGETS if target.verdict(at) not in {Verdict.NOT_MEASURED, Verdict.NO_TARGET}]
    assert target.verdict(at) is verdict
    assert missed(at) == [target] * (verdict is Verdict.MISSED)


def test_what_has_no_target_is_shown_without_a_verdict() -> None:
    """The server on the same core: the figure is there, and nothing is asked of it."""
    here = [series(peer, [value], where=Where.SAME) for peer, value in (("db", 300), ("SQLAlchemy", 100))]
    (shown,) = [row for row in rows(result(*here)) if row[1]]
    assert shown[1:] == ["3.00", "3.00 to 3.00 (0%)", "", ""]


def test_the_misses_come_first() -> None:
    """Then what the median alone meets; what was not measured is last."""
    order = list(Verdict)
    shown = [line.strip("|").split("|")[-1].strip() for line in targets(COMMITTED).splitlines()[2:]]
    assert [order.index(Verdict(one)) for one in shown] == sorted(order.index(Verdict(one)) for one in shown)


def test_results_come_back_as_they_were_saved(tmp_path: Path) -> None:
    """As JSON that a person can compare: a line for each series."""
    saved = result(series("db", [1.25, 2], [3]), series("SQLAlchemy", [4]))
    saved.save(tmp_path)
    assert load(tmp_path, ["wire", "cpu"]) == {"cpu": saved}
    assert len([line for line in (tmp_path / "cpu.json").read_text().splitlines() if '"rounds"' in line]) == 2


def test_what_was_not_measured_is_named() -> None:
    """Not shown as a number that means something else."""
    with pytest.raises(KeyError, match="trips"):
        result(series("db", [1])).find("db", Work.WRITE, "trips")


def test_every_section_has_targets() -> None:
    """A section without one would be a number that nobody asks about; a target without one would never be looked at."""
    assert {target.section for target in TARGETS} == SECTIONS.keys()


def test_a_section_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is measured."""
    with pytest.raises(SystemExit):
        command.main(["wires"])
    assert "there is no section wires: they are wire, cpu, instructions, cold" in capsys.readouterr().err


@pytest.mark.parametrize("section", COMMITTED)
def test_the_committed_results_say_what_they_were_measured_with(section: str) -> None:
    """Samples without versions and machine cannot be compared with anything."""
    found = COMMITTED[section]
    assert {
        "python",
        "sqlalchemy",
        "psycopg",
        "asyncpg",
        "aws-advanced-python-wrapper",
        "boto3",
    } <= found.versions.keys()
    assert {"processor", "cores", "the two in use", "system"} == found.machine.keys()
    assert all(sample >= 0 for one in found.series for taken in one.rounds for sample in taken)


def test_the_committed_table_and_plot_are_those_of_the_committed_results() -> None:
    """Nobody edits a figure by hand."""
    assert (command.RESULTS / "table.md").read_text() == table(COMMITTED)
    assert command.PLOT.read_text() == plot(COMMITTED)


def test_the_plot_is_well_formed_and_has_a_bar_for_each_figure() -> None:
    """With its value beside it, within the picture."""
    drawn = ET.fromstring(plot(COMMITTED))  # noqa: S314 - made by this test
    bars = drawn.findall(f"{SVG}rect")
    assert len(bars) == sum(len(panel.bars) for panel in panels(COMMITTED))
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) < float(drawn.attrib["width"]) for bar in bars)


def test_every_name_in_the_plot_has_room_before_its_bar() -> None:
    """In a wide font as well: what begins left of the picture is cut off."""
    drawn = ET.fromstring(plot(COMMITTED))  # noqa: S314 - made by this test
    names = [text for text in drawn.findall(f"{SVG}text") if text.get("text-anchor") == "end"]
    assert len(names) == sum(len(panel.bars) for panel in panels(COMMITTED))
    assert [text.text for text in names if float(text.attrib["x"]) < 7.3 * len(text.text or "")] == []


@pytest.mark.parametrize(("page", "name", "made"), BLOCKS, ids=lambda one: getattr(one, "name", None))
def test_a_page_shows_the_committed_results(page: Path, name: str, made: Callable[[Mapping[str, Result]], str]) -> None:
    """The misses among them."""
    assert shown(page.read_text(), name) == made(COMMITTED).strip()


def test_a_block_is_replaced_between_its_markers() -> None:
    """And a page without the markers is not written over."""
    page = "before <!-- one --> old <!-- /one --> after"
    assert replaced(page, "one", "new") == "before <!-- one -->\n\nnew\n\n<!-- /one --> after"
    assert shown(replaced(page, "one", "new"), "one") == "new"
    with pytest.raises(ValueError, match="no block two"):
        replaced(page, "two", "new")


@pytest.mark.parametrize(
    ("what", "work", "peers"),
    [
        ("the first transaction of a process, connect included", Work.FIRST, (OURS, PRE_PING, "psycopg")),
        ("a transaction with tenant and time limit, one statement", Work.BOUND_WRITE, (OURS, PRE_PING, "psycopg")),
        ("a read with tenant and time limit, one statement", Work.BOUND_READ, (OURS, PRE_PING, "psycopg")),
        (
            "the same transaction with a connection of its own (NullPool)",
            Work.UNPOOLED,
            (NULL, "SQLAlchemy, NullPool", "psycopg"),
        ),
    ],
)
def test_the_readme_shows_the_trips_that_were_counted(what: str, work: Work, peers: Sequence[str]) -> None:
    """Here, with SQLAlchemy, with psycopg."""
    counted = [COMMITTED["wire"].find(peer, work, "trips").median() for peer in peers]
    assert f"| {what} | {' | '.join(f'{trips:.0f}' for trips in counted)} |" in README


def test_the_documents_first_page_shows_the_trips_that_were_counted() -> None:
    """The same as the readme, in a sentence."""
    page = " ".join((ROOT / "docs/index.md").read_text().split())
    for work, sentence in {
        Work.BOUND_WRITE: "with tenant and time limit takes {:.0f} trips, and {:.0f} with SQLAlchemy by hand",
        Work.BOUND_READ: "A read takes {:.0f} instead of {:.0f}",
        Work.FIRST: "the first transaction of a process {:.0f} instead of {:.0f}",
    }.items():
        counted = [COMMITTED["wire"].find(peer, work, "trips").median() for peer in (OURS, PRE_PING)]
        assert sentence.format(*counted) in page


def test_the_readme_shows_the_trips_of_a_batch() -> None:
    """Psycopg alone has none to compare."""
    ours, usual = (COMMITTED["batch"].find(peer, Work.SPOILED, "trips").median() for peer in (DB_BATCH, EACH_PRE_PING))
    assert f"| a batch of 100 records, 10 of them bad | {ours:.0f} | {usual:.0f} | |" in README
