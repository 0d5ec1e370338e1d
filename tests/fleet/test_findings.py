"""What callers know, what the table holds, and what is said of it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from devkit import cli
from devkit.fleet.environment import Answer
from devkit.fleet.finding import Curve, Finding
from devkit.fleet.ledger import Entry, Outcome, audited, percentile
from devkit.fleet.plot import plot
from devkit.fleet.report import save, shown, table, tables

SVG = "{http://www.w3.org/2000/svg}"


def entry(name: str, error: str | None = None, message: str = "", **events: int) -> Entry:
    return Entry(name, at_s=1.0, took_s=0.01, answer=Answer(error=error, message=message, events=Counter(events)))


def finding(*, met: bool, outcome: Outcome | None = None) -> Finding:
    return Finding(
        name="storm",
        title="a storm",
        target="0 failed",
        parts={"0 failed": met},
        figures={"ours": "2 of 9 failed", "ours, db.run": "3 of 9 failed", "plain": "8 of 9 failed"},
        outcomes={"ours": outcome} if outcome else {},
        curves={
            label: Curve(held=[(0.0, 0), (1.0, 7), (2.0, 7), (3.0, 0)], answers=[(1.0, False), (2.0, failed)])
            for label, failed in (("ours", False), ("plain", True))
        },
    )


def test_a_write_that_was_acknowledged_and_is_not_there_is_lost() -> None:
    """One that is there twice was applied twice, whoever it was acknowledged to."""
    found = audited([entry("here"), entry("gone"), entry("twice")], {"here": 1, "twice": 2})
    assert (found.answered, found.lost, found.duplicated) == (3, 1, 1)


def test_a_failure_that_did_write_has_to_say_that_it_may_have() -> None:
    """The layer's unknown outcome says so, and Lambda's own end of an invocation promises nothing."""
    failures = [entry("a", "OutcomeUnknownError"), entry("b", "Sandbox.Timedout"), entry("c", "OperationalError")]
    found = audited([*failures, entry("d", "OperationalError")], {"a": 1, "b": 1, "c": 1})
    assert (found.failed, found.unknown, found.misreported) == (4, 2, 1)


def test_errors_are_counted_by_what_they_have_in_common() -> None:
    """A port or a number of seconds makes no other error of it; the layer's own efforts are added up."""
    found = audited([entry("a", "E", "port 51", retry=2), entry("b", "E", "port 7", replay=1), entry("c", "F")], {})
    assert found.errors == {"E: port …": 2, "F": 1}
    assert (found.retried, found.replayed, found.waited) == (2, 1, 0)


def test_a_percentile_is_a_time_that_was_measured() -> None:
    """The smallest that is enough for the share; of nothing it is nothing."""
    times = [float(n) for n in range(1, 101)]
    assert [percentile(times, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert (percentile([3.0], 0.5), percentile([], 0.99)) == (3, 0)


def test_a_target_that_is_missed_is_shown_with_what_went_wrong() -> None:
    """And one that is met without."""
    outcome = audited([entry("a", "CapacityError", "full")], {})
    missed, met = shown(finding(met=False, outcome=outcome)), shown(finding(met=True, outcome=outcome))
    assert "MISSED        0 failed" in missed
    assert "1 times CapacityError: full" in missed
    assert "MISSED" not in met
    assert "CapacityError" not in met


def test_a_row_of_the_table_has_both_functions() -> None:
    """Ours in each of its kinds."""
    (row,) = table([finding(met=True)]).splitlines()[2:]
    assert row == "| a storm | 0 failed | 2 of 9 failed; db.run: 3 of 9 failed | 8 of 9 failed | met |"


def test_what_came_by_each_door_has_a_table_of_its_own() -> None:
    """A column for each driver at each door, below the table of those with a plain function."""
    cells = {"direct, psycopg": "0 of 9 failed", "pgbouncer, psycopg": "1 of 9 failed"}
    behind = replace(finding(met=False), figures=cells, by_door=True)
    assert tables([behind]).splitlines() == [
        "| scenario | direct, psycopg | pgbouncer, psycopg | |",
        "|---|---|---|---|",
        "| a storm | 0 of 9 failed | 1 of 9 failed | missed |",
    ]
    assert tables([behind, finding(met=True)]) == f"{table([finding(met=True)])}\n\n{tables([behind])}"


def test_the_plot_shows_what_failed() -> None:
    """A line of connections for each function, ours above; a bar for each stretch of answers."""
    drawn = ET.fromstring(plot([finding(met=True)]))  # noqa: S314 - just made
    paths = [(path.get("class"), path.get("d", "").count("M")) for path in drawn.iter(f"{SVG}path")]
    assert paths == [("held", 1), ("ours-held", 1), ("ours-answered", 2), ("failed", 1), ("answered", 1)]


def test_results_are_kept_as_json_and_svg(tmp_path: Path) -> None:
    """The curves in the picture alone."""
    save([finding(met=True)], tmp_path)
    (kept,) = json.loads((tmp_path / "fleet.json").read_text())["scenarios"]
    assert (kept["name"], kept["met"], "curves" in kept) == ("storm", True, False)
    assert ET.parse(tmp_path / "fleet.svg").getroot().tag == f"{SVG}svg"  # noqa: S314 - just made


def test_a_scenario_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names of those that do; and no other command takes one."""
    for arguments in (["fleet", "earthquake"], ["settings", "storm"]):
        with pytest.raises(SystemExit):
            cli.main(arguments)
    assert "there is no scenario earthquake: they are cuts, freezes" in capsys.readouterr().err


def test_the_document_has_the_figures_of_the_results() -> None:
    """docs/run/survival.md holds table and picture of the run that is kept beside the benchmarks."""
    root = Path(__file__).parents[2]
    results, shown_in = root / "benchmarks" / "results", root / "docs" / "run"
    kept = json.loads((results / "fleet.json").read_text())["scenarios"]
    document = (shown_in / "survival.md").read_text()
    assert [one["name"] for one in kept if any(figure not in document for figure in one["figures"].values())] == []
    assert (shown_in / "survival.svg").read_text() == (results / "fleet.svg").read_text()


@pytest.mark.parametrize("scenario", ["rotation", "restart", "failover", "storm", "deploy", "freezes", "cuts"])
def test_the_readme_has_the_figures_of_the_results(scenario: str) -> None:
    """A row a scenario: what failed here, and what failed with plain SQLAlchemy."""
    root = Path(__file__).parents[2]
    kept = json.loads((root / "benchmarks" / "results" / "fleet.json").read_text())["scenarios"]
    (figures,) = (one["figures"] for one in kept if one["name"] == scenario)
    ours, plain = (re.findall(r"[\d,]+ of [\d,]+(?= failed)", figures[label])[0] for label in ("ours", "plain"))
    assert f"| {ours} | {plain} |" in (root / "README.md").read_text()
