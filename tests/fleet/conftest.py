"""One fork server for all tests here: what it forks is theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.fleet.fork_server import ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer() as opened:
        yield opened
