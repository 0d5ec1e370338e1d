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
    """Call ``main`` as a command, and exit with its status; with NOBODY_READS where its reader has gone.

    Without an output from the start (``>&-``), what it prints is for nobody, and its status is told as ever.
    """
    status: object
    _open_what_is_closed()
    try:
        try:
            status = main()
        except SystemExit as asked:  # argparse's, once it has printed
            status = asked.code
        sys.stdout.flush()  # else the interpreter would find out at its end, and say so
    except BrokenPipeError:
        gone = [output.fileno() for output in (sys.stdout, sys.stderr) if _is_closed(output.fileno())]
        if not gone:
            raise
        # Whatever is still to be written, by that end, is for nobody.
        nobody = os.open(os.devnull, os.O_WRONLY)
        for descriptor in gone:
            os.dup2(nobody, descriptor)
        status = NOBODY_READS
    raise SystemExit(status)


def _open_what_is_closed() -> None:
    """Python has None in the place of a closed output. The next file or socket would be given its number as well."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            nobody = os.open(os.devnull, os.O_WRONLY)
            try:
                os.fstat(number)  # what has been opened since is another's
            except OSError:
                os.dup2(nobody, number)
            setattr(sys, name, open(nobody, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for the process' life


def _is_closed(descriptor: int) -> bool:
    """Whether nobody has the other end: a pipe that broke elsewhere is an error like any other."""
    asked = select.poll()
    asked.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))
