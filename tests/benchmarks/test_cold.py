"""What the cold starts are measured with."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.cold import builds
from benchmarks.sections.cold import FAR, IN_SEQUENCE, OURS, cpu_us
from benchmarks.series import Result, Series
from benchmarks.targets import COLD, Verdict

if TYPE_CHECKING:
    from pathlib import Path

BUSY = """
import threading, time
def work():
    while time.thread_time() < 0.1: pass
thread = threading.Thread(target=work); thread.start(); thread.join()
print(time.process_time_ns() // 1000, flush=True)
input()
print(time.process_time_ns() // 1000, flush=True)
"""


def test_the_cpu_of_a_process_counts_its_threads_that_have_ended() -> None:
    """It is what the process would say of itself between the two moments."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        before = int(process.stdout.readline())
        between = cpu_us(process.pid)
        out, _ = process.communicate("\n")
    assert 100_000 <= before <= between <= int(out)


def test_a_process_that_has_ended_has_no_cpu_clock() -> None:
    """Said, rather than a number that belongs to nobody."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(OSError, match="no CPU clock"):
        cpu_us(process.pid)


def test_the_size_of_an_artifact_is_that_of_all_its_files(tmp_path: Path) -> None:
    """Function and layer together, as Lambda counts them."""
    for folder in ("task", "opt/python"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "module.py").write_bytes(b"12345")
    artifact = builds.Artifact("module.handler", (tmp_path / "task",), (tmp_path / "task", tmp_path / "opt"))
    assert artifact.bytes() == 10


@pytest.mark.parametrize(("wall", "verdict"), [(500, Verdict.MISSED), (400, Verdict.MET)])
def test_what_overlaps_is_what_a_start_takes_less_than_its_parts(wall: float, verdict: Verdict) -> None:
    """A start in which nothing is done while it waits takes as long as all of them."""
    measured = [
        Series(peer=OURS, work=FAR, measure=measure, rounds=[[us], [us], [us]])
        for measure, us in (("wall_us", wall), (IN_SEQUENCE, 500.0))
    ]
    result = Result(section="cold", made_on="2026-01-31", machine={}, versions={}, noise={}, series=measured)
    (target,) = [target for target in COLD if FAR in target.what]
    figure = target.reached({"cold": result})
    assert figure is not None
    assert figure.value == wall / 500
    assert target.verdict({"cold": result}) is verdict
