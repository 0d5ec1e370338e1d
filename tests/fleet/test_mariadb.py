"""The scenarios of the fleet on MariaDB, small: ours reaches each target, and the fault breaks the plain function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.fleet.finding import OURS, PLAIN
from devkit.fleet.scenarios.mariadb import OURS_AIO, mariadb_freezes, mariadb_restart, mariadb_rotation

from .test_scenarios import require

if TYPE_CHECKING:
    from devkit.fleet.fork_server import ForkServer

pytestmark = pytest.mark.slow


def test_nothing_fails_on_mariadb(fork_server: ForkServer) -> None:
    """Under freezes past the end of a session, rotations of the password, and a restart."""
    found = require(mariadb_freezes(fork_server, environments=3, invocations=5))
    assert found.outcomes[OURS].invoked == found.outcomes[OURS_AIO].invoked == 15
    found = require(mariadb_rotation(fork_server, environments=3, rotations=2, alternations=1, window_s=0.6))
    assert found.outcomes[PLAIN].failed > 0
    found = require(mariadb_restart(fork_server, environments=3, restarts=1, away_s=0.5, pause_s=0.05))
    assert found.outcomes[PLAIN].failed > 0
    assert found.outcomes[OURS].waited > 0
