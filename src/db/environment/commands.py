"""What each ``python -m …`` of the project does around its work: an end without a traceback when nobody reads on.

``python -m db check | head`` closes the pipe early. Python ignores SIGPIPE, and says so with BrokenPipeError; to have
the signal end the process instead would let any connection that a server closes do so too.
"""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

# As a shell says it of a program that SIGPIPE has ended.
NOBODY_READS = 141


def run(main: Callable[[], int]) -> NoReturn:
    """Call ``main`` as a command, and exit with its status; with NOBODY_READS where standard output was closed."""
    status: object
    try:
        try:
            status = main()
        except SystemExit as asked:  # argparse's, once it has printed
            status = asked.code
        sys.stdout.flush()  # else the interpreter would find out at its end, and say so
    except BrokenPipeError:
        if not _is_closed(sys.stdout.fileno()):
            raise
        # Whatever is still to be written, by that end, is for nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = NOBODY_READS
    raise SystemExit(status)


def _is_closed(descriptor: int) -> bool:
    """Whether nobody has the other end: a pipe that broke elsewhere is an error like any other."""
    asked = select.poll()
    asked.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))
