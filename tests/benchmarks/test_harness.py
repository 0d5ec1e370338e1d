"""What the figures rest on: turns in rounds, the interval of a median, pinned cores, and a machine that is quiet."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks import __main__ as command
from benchmarks.cores import aside, cores, move
from benchmarks.pairs import interval, ratio, turns
from benchmarks.quiet import Noise, Watch
from benchmarks.releases import CannotMeasureError
from benchmarks.sections.instructions import total
from benchmarks.series import Series, load

if TYPE_CHECKING:
    from pathlib import Path

    from devkit.servers.postgres import Postgres

QUIET = Noise(load=0.0, steal=0.0, others=0.0)
BUSY = Noise(load=0.0, steal=0.0, others=0.5)
DRAWN = random.Random(7)  # noqa: S311 - nobody has to be kept from guessing it


def test_in_each_round_everyone_has_a_turn_in_an_order_of_its_own() -> None:
    """The same orders for the same seed, and each of them now and then."""
    rounds = list(turns(["a", "b"], rounds=40, seed="1"))
    assert rounds == list(turns(["a", "b"], rounds=40, seed="1"))
    assert {tuple(one) for one in rounds} == {("a", "b"), ("b", "a")}
    another = list(turns(["a", "b"], rounds=40, seed="2"))
    assert rounds != another


@pytest.mark.parametrize(
    ("number", "ranks", "coverage"),
    [(1, (1, 1), 0.0), (5, (1, 5), 0.9375), (6, (1, 6), 0.96875), (10, (2, 9), 0.97852), (40, (14, 27), 0.96152)],
)
def test_the_interval_of_a_median_is_between_two_ranks(
    number: int, ranks: tuple[float, float], coverage: float
) -> None:
    """Those of the tables for the sign test. Of fewer than six values the range covers less than 0.95, and says so."""
    found = interval(DRAWN.sample(range(1, number + 1), number))
    assert (found.low, found.high) == ranks
    assert found.coverage == pytest.approx(coverage, abs=1e-5)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    """Of a distribution with a long tail, as times have one."""
    runs, held = 2000, 0
    for _ in range(runs):
        found = interval([DRAWN.lognormvariate(0, 1) for _ in range(20)])
        held += found.low <= 1 <= found.high
    assert held / runs == pytest.approx(interval([*range(20)]).coverage, abs=0.02)


def test_a_slow_round_moves_no_ratio() -> None:
    """It met both. But they have to have been in the same rounds."""
    above, below = [10.0, 11.0, 1200.0, 10.5, 10.2], [20.0, 22.0, 2400.0, 21.0, 20.4]
    assert ratio(above, below).value == 0.5
    with pytest.raises(ValueError, match="shorter"):
        ratio(above, below[:4])


def test_this_process_keeps_aside_and_what_it_starts_does_too() -> None:
    """For the length of the block."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        with pytest.raises(RuntimeError, match="a core each"):
            cores()
        return
    with aside() as found:
        asked = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
        said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        assert os.sched_getaffinity(0) == {found.other} == {int(core) for core in said.split()}
        assert found.client != found.other
    assert os.sched_getaffinity(0) == before


def test_a_server_is_moved_with_its_backends_and_those_to_come(postgres: Postgres) -> None:
    """None of its processes is left on another core."""
    everywhere = os.sched_getaffinity(0)
    with postgres.as_superuser() as early:
        move(postgres, min(everywhere))
        with postgres.as_superuser() as late:
            pids = [one.execute("SELECT pg_backend_pid()").fetchall()[0][0] for one in (early, late)]
            assert [os.sched_getaffinity(pid) for pid in pids] == [{min(everywhere)}] * 2
    move(postgres, *everywhere)


def test_what_this_process_and_its_children_do_is_no_noise() -> None:
    """The children that have ended included; what else the machine did is not negative."""
    before = Watch(load=0.0)
    busy = "import time\nwhile time.process_time() < 0.15: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    while time.process_time() < 0.05:
        pass
    others = Watch(load=0.0)
    assert others._before.ours - before._before.ours >= 14
    assert 0 <= before.noise().others <= 1


def test_each_kind_of_noise_is_complained_of() -> None:
    """In numbers, and with what would have been allowed."""
    assert QUIET.complaints() == []
    noise = Noise(load=0.8, steal=0.02, others=0.25)
    assert noise.complaints() == [
        "a load of 0.80 a core when it began (at most 0.25)",
        "2.0% of the time stolen by the host (at most 1%)",
        "25.0% of the time taken by other processes (at most 3%)",
    ]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One section in place of all, on a machine that was quiet before; what was measured is noted."""
    calls: list[str] = []

    def measure(*_: object) -> list[Series]:
        calls.append("cpu")
        return [Series(peer="db", work="write", measure="cpu_us", rounds=[[1]])]

    monkeypatch.setattr(command, "SECTIONS", {"cpu": measure})
    monkeypatch.setattr(command, "calm", lambda: 0.0)
    return calls


def test_instructions_are_what_a_file_of_callgrind_sums_up_to() -> None:
    """Its line of totals, whatever else it holds."""
    assert total("# callgrind format\nevents: Ir\nfn=(1) below main\n1 12\ntotals: 345\n") == 345


def test_a_quiet_run_is_stored(measured: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With how quiet it was."""
    monkeypatch.setattr(Watch, "noise", lambda _: QUIET)
    assert command.main(["--results", str(tmp_path)]) == 0
    assert measured == ["cpu"]
    assert load(tmp_path, ["cpu"])["cpu"].noise == {"load": 0.0, "steal": 0.0, "others": 0.0}


def test_a_run_that_others_disturbed_is_shown_and_not_stored(
    measured: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what disturbed it. Asked to measure anyway, that is no failure."""
    monkeypatch.setattr(Watch, "noise", lambda _: BUSY)
    for arguments, status in (([], command.NOT_STORED), (["--anyway"], 0)):
        assert command.main([*arguments, "--results", str(tmp_path)]) == status
        said = capsys.readouterr()
        assert "cpu: the machine was busy: 50.0% of the time taken by other processes" in said.err
        assert "| figure | median |" in said.out
    assert measured == ["cpu", "cpu"]
    assert list(tmp_path.iterdir()) == []


def test_on_a_busy_machine_nothing_is_measured(
    measured: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A quarter of an hour would be for nothing."""
    monkeypatch.setattr(command, "calm", lambda: 2.0)
    assert command.main(["--results", str(tmp_path)]) == command.NOT_STORED
    assert "the machine is busy, a load of 2.00 a core" in capsys.readouterr().err
    assert measured == []


def test_a_section_that_this_machine_cannot_measure_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are measured all the same."""

    def measure(*_: object) -> list[Series]:
        raise CannotMeasureError("there is no pgbench")

    monkeypatch.setattr(command, "SECTIONS", {"throughput": measure})
    monkeypatch.setattr(command, "calm", lambda: 0.0)
    assert command.main(["--results", str(tmp_path)]) == command.NOT_STORED
    assert "throughput: it cannot be measured on this machine: there is no pgbench" in capsys.readouterr().err
