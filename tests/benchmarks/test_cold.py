"""What the cold starts are measured with."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.cold import builds
from benchmarks.sections.cold import cpu_us

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
