"""SnapStart: what must not be in a snapshot, and what its copies must not have in common.

A snapshot is taken once after Init and restored in many environments, weeks later too: it may hold no connection and no
secret, and what was drawn or read from a clock before it is the same in every copy.
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
from typing import TYPE_CHECKING

from . import event_loop, process

if TYPE_CHECKING:
    from collections.abc import Callable

_installing = threading.Lock()
_installed = False


def install(begin_anew: Callable[[], None]) -> None:
    """Register the hooks, where this environment is made for a snapshot; ``begin_anew`` is called after a restore.

    To be called during Init, any number of times. Does nothing elsewhere, or without Lambda's ``snapshot_restore_py``,
    which its managed runtimes bring.
    """
    global _installed  # noqa: PLW0603 - the process's hooks
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return
    with _installing:
        if _installed:
            return
        _installed = True
    try:
        import snapshot_restore_py
    except ImportError:
        return
    snapshot_restore_py.register_before_snapshot(before_snapshot)
    snapshot_restore_py.register_after_restore(after_restore, begin_anew)


def before_snapshot() -> None:
    """Close every connection and the event loop, and drop the secrets: what the snapshot holds is at rest on a disk.

    boto3's default session goes with them: its clients, the layer's and the function's own, have the role's keys as
    they were in Init. Engines stay, with the SQL that they have compiled, so that what Init has tried out is quick in
    every copy.
    """
    for now in process.runtimes():
        now.dispose()
        now.forget_credentials()
    event_loop.close()
    _forget_default_session()
    gc.unfreeze()  # what was there when `db` was imported, too
    gc.collect()  # clients and sessions of boto3 refer to each other


def _forget_default_session() -> None:
    boto3 = sys.modules.get("boto3")
    if boto3 is not None:
        boto3.DEFAULT_SESSION = None  # type: ignore[attr-defined]  # not in its stubs


def after_restore(begin_anew: Callable[[], None]) -> None:
    """Forget what was opened or fetched between the hook before and the snapshot, and draw other numbers than others.

    A hook of the function's own that runs in between may have used the database. ``random`` is seeded afresh, for the
    waits between retries come from it.
    """
    for now in process.runtimes():
        now.abandon()
        now.forget_credentials()
    _forget_default_session()
    random.seed()
    begin_anew()
