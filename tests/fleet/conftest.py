"""One nursery for all tests here: what it forks is theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit.fleet.nursery import Nursery

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as opened:
        yield opened
