"""What tests of any folder may need, and how a run ends that is told to."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_configure() -> None:
    """SIGTERM ends a run through its fixtures, as Ctrl-C does: by itself it would leave every server behind."""

    def leave(number: int, _frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        pytest.exit("terminated", returncode=128 + number)

    signal.signal(signal.SIGTERM, leave)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: a third of a test is waiting, for a server or for a limit to pass."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True)
def _no_database_is_left_open() -> Iterator[None]:
    """What one test has left open, the next one of its process would count among its own: at an environment's end."""
    yield
    if process := sys.modules.get("db.environment.process"):  # a test of nothing but the kit has none
        for holder in process.holders():
            holder.dispose()


@pytest.fixture(autouse=True)
def _no_listener_is_left() -> Iterator[None]:
    """A listener to all engines marks their class for good: each later test of its process would pay for events."""
    yield
    if engines := sys.modules.get("sqlalchemy.engine"):
        engines.Engine._has_events = engines.Connection._has_events = False


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """A function that interrupts the main thread as Ctrl-C does; any thread may call it.

    Under `nohup`, or in the background of a script, Python is started with SIGINT ignored and leaves it so.
    """
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.pthread_kill(main_thread, signal.SIGINT)
    signal.signal(signal.SIGINT, before)
