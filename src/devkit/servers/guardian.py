"""What a process leaves behind that is killed: its servers, ended, and their folders, removed, by one that outlives it.

Owns nothing of a server's ordinary end, which is its class's own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Standard input is a pipe whose other end this process holds: it closes with the process, however that ends. A line is
# the process id to end from now on, or empty when there is none. The shell is the smallest program that can do this,
# on macOS, too, which has no PR_SET_PDEATHSIG; and that hangs on the thread that forked, not on the process.
SCRIPT = """
folder=$1 pid=
while read -r line; do
    [ "$line" = dismissed ] && exit
    pid=$line
done
if [ -n "$pid" ] && kill -QUIT "$pid"; then
    polls=0
    while kill -0 "$pid" && [ "$polls" -lt 200 ]; do
        polls=$((polls + 1))
        [ "$polls" -eq 100 ] && kill -KILL "$pid"
        sleep 0.05
    done
fi
rm -rf -- "$folder"
"""


class Guardian:
    """Ends the server that it watches and removes ``folder`` if this process ends before ``dismiss``, by SIGKILL, too.

    A child that was forked and runs no other program holds the pipe, too: then the end of the last of them counts.
    """

    def __init__(self, folder: Path) -> None:
        read, self._line = os.pipe()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", SCRIPT, "guardian", folder],
                stdin=read,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # what is sent to this process's group is not for it
            )
        finally:
            os.close(read)

    def watch(self, pid: int | None) -> None:
        """From now on ``pid`` is the server to end: SIGQUIT, and SIGKILL 5 s later. None: there is none."""
        self._say("" if pid is None else str(pid))

    def dismiss(self) -> None:
        """The server has ended and the folder is gone: let the guardian go."""
        self._say("dismissed")
        os.close(self._line)
        self._process.wait()

    def _say(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # somebody ended it, which is no reason for the server to fail
            os.write(self._line, f"{line}\n".encode())
