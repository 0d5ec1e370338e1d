"""What tests of any folder may need."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
