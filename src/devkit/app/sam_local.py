"""`make sam-local`: every payload through `sam local invoke`, in Docker, against the local stack.

SAM and the template are the real ones: what is proven here is what `sam build` packs, that the template gives each
function the settings that it needs, and that the package runs in Lambda's container. Stack and cases are the demo's.

A container's 127.0.0.1 is its own, and SAM puts containers on Docker's bridge whatever `--docker-network host` says. So
the functions reach this machine as `host.docker.internal`, and what listens on loopback only gets a door on the bridge.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from devkit.lambda_runtime import docker, image

from .catalogue import ROOT, cases, in_a_word
from .stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from devkit.network.wire import Counts

    from .catalogue import Case

TEMPLATE = ROOT / ".aws-sam/build/template.yaml"
LOOPBACK = "127.0.0.1"
HOST = "host.docker.internal"

# The longest function timeout but the migration's, and SAM's own start twice over.
INVOKE_S = 120.0
BUILD_S = 300.0
POLL_S = 0.05

LOOPBACK_URL = re.compile(rf"(https?://){re.escape(LOOPBACK)}:(\d+)")
REPORT = re.compile(r"^REPORT .*?\tDuration: ([\d.]+) ms", re.MULTILINE)

# What `sam` may see of this shell and of the stack. Where the template names a variable
# too, the shell's value would win.
PASSED_ON = (
    *("PATH", "HOME", "LANG", "XDG_CACHE_HOME", "DOCKER_HOST", "DOCKER_CONFIG"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"),
)


# The gateway is on another (virtual) machine, or the port is open on every address already.
NO_DOOR_NEEDED = (errno.EADDRNOTAVAIL, errno.EADDRINUSE)


@dataclass(frozen=True)
class Outcome:
    """What came of one case."""

    case: Case
    answer: Any
    ms: float
    counts: Counts
    problem: str | None
    log: str


def run() -> int:
    """Build, invoke every case in order, print a table. Returns 1 if anything was not as expected."""
    signal.signal(signal.SIGTERM, leave)
    try:
        with docker.engine() as engine:
            outcomes = rehearse(engine)
    except docker.DockerError as error:
        print(f"make sam-local: {error}", file=sys.stderr)
        return 1
    failed = [outcome for outcome in outcomes if outcome.problem]
    print(f"\n{len(outcomes) - len(failed)} of {len(outcomes)} events answered as expected")
    return 1 if failed or not outcomes else 0


def rehearse(engine: docker.Engine) -> list[Outcome]:
    """All cases on one engine, each shown when it is done."""
    started = time.monotonic()
    print(f"runtime image: {image.runtime_image(engine)} ({time.monotonic() - started:.0f} s)", flush=True)
    build()
    with Stack() as stack, Doors(engine.gateway()) as doors, tempfile.TemporaryDirectory() as folder:
        sam = Sam(stack, doors, engine, Path(folder))
        print(f"\n{line('event', 'function', 'answer', 'ms', 'trips', 'connects')}", flush=True)
        return [show(sam.outcome(case)) for case in cases()]


def leave(number: int, _frame: FrameType | None) -> None:
    """End through the open blocks, so that the engine and the stack go too. A second signal changes nothing."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def build() -> None:
    """`sam build`, quiet unless it fails, with the sizes that its makefiles print."""
    started = time.monotonic()
    command = [program("sam"), "build", "--template", str(ROOT / "template.yaml"), "--build-dir", str(TEMPLATE.parent)]
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=quiet(os.environ), text=True, capture_output=True, timeout=BUILD_S
    )
    if done.returncode:
        raise SystemExit(f"sam build failed:\n{done.stderr}")
    print(f"sam build: {time.monotonic() - started:.0f} s", flush=True)
    for size in sorted(re.findall(r"^\w+: \d+ bytes unzipped", done.stderr, re.MULTILINE)):
        print(f"  {size}", flush=True)


def program(name: str) -> str:
    """A command of this environment, whether or not it is on the path."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or name


def quiet(environment: Mapping[str, str]) -> dict[str, str]:
    """Without SAM's usage reports, and with this environment's commands first, for the makefiles call uv."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return {**environment, "PATH": path, "SAM_CLI_TELEMETRY": "0"}


class Sam:
    """`sam local invoke` against one stack."""

    def __init__(self, stack: Stack, doors: Doors, engine: docker.Engine, folder: Path) -> None:
        self._stack = stack
        self._doors = doors
        self._payload = folder / "payload.json"
        given = stack.parameters()
        doors.open(stack.wire.port)
        self._parameters = {
            "DatabaseHost": HOST,
            # The embedded server has no certificate, and it is not on the function's loopback, where none is asked for.
            "SslMode": "disable",
            **{name: doors.reachable(value) for name, value in given.items()},
            "Architecture": image.ARCHITECTURE,
        }
        visible = {**engine.environment(), **stack.environment()}
        self._environment = quiet({name: visible[name] for name in PASSED_ON if name in visible})
        # SAM asks STS for the account; without an answer it waits ten seconds before it makes one up.
        self._environment["AWS_ENDPOINT_URL_STS"] = given["SecretsEndpoint"]
        # Its lock files: one that outlives a killed run would hold the next one up.
        self._environment["TMPDIR"] = str(folder)

    def outcome(self, case: Case) -> Outcome:
        """Invoke the case's function with its payload and let the stack judge the answer."""
        self._payload.write_text(self._doors.reachable(json.dumps(self._stack.payload(case))))
        before, started = self._stack.wire.counts(), time.monotonic()
        done = subprocess.run(
            self.command(case), check=False, env=self._environment, text=True, capture_output=True, timeout=INVOKE_S
        )
        elapsed_ms = (time.monotonic() - started) * 1000
        reported = REPORT.search(done.stderr)
        answer = parsed(done.stdout)
        answered = done.returncode == 0 and bool(done.stdout.strip())
        return Outcome(
            case=case,
            answer=answer,
            ms=float(reported[1]) if reported else elapsed_ms,
            counts=self._stack.wire.counts() - before,
            problem=self._stack.problem(case, answer) if answered else f"sam ended with {done.returncode}, no answer",
            log=done.stderr,
        )

    def command(self, case: Case) -> list[str]:
        """What a developer would type."""
        overrides = [f"ParameterKey={name},ParameterValue={value}" for name, value in self._parameters.items() if value]
        return [
            *(program("sam"), "local", "invoke", case.function, "--template", str(TEMPLATE)),
            *("--event", str(self._payload), "--skip-pull-image"),
            *("--add-host", f"{HOST}:host-gateway", "--parameter-overrides", *overrides),
        ]


def parsed(printed: str) -> Any:
    """The answer: the last line that SAM prints, or the text itself when that is no JSON."""
    line = printed.strip().rsplit("\n", 1)[-1]
    try:
        return json.loads(line)
    except ValueError:
        return line


def show(outcome: Outcome) -> Outcome:
    """One line of the table, and the log under one that failed."""
    case, counts = outcome.case, outcome.counts
    cells = (in_a_word(outcome.answer), f"{outcome.ms:.0f}", counts.trips, counts.connections)
    print(line(case.name, case.function, *cells), flush=True)
    if outcome.problem:
        print(
            f"  {outcome.problem}\n  it answered {json.dumps(outcome.answer)[:2000]}\n{outcome.log[-4000:]}", flush=True
        )
    return outcome


def line(event: str, function: str, *cells: object) -> str:
    """A line of the table."""
    return f"{event:<32} {function:<22}" + "".join(f"{cell!s:>10}" for cell in cells)


class Doors:
    """The bridge's side of ports that listen on loopback only.

    Where the gateway is no address of this machine, Docker runs in a virtual machine of its own and leads
    `host.docker.internal` to the loopback itself. Then there is nothing to open.
    """

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._ports: set[int] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def reachable(self, text: str) -> str:
        """The text with its loopback URLs as a container reaches them."""
        for match in LOOPBACK_URL.finditer(text):
            self.open(int(match[2]))
        return LOOPBACK_URL.sub(rf"\g<1>{HOST}:\g<2>", text)

    def open(self, port: int) -> None:
        """Let the bridge in to a port."""
        if port in self._ports:
            return
        self._ports.add(port)
        try:
            door = self._stack.enter_context(Door((self._gateway, port), Passage))
        except OSError as error:
            if error.errno in NO_DOOR_NEEDED:
                return
            raise
        threading.Thread(target=door.serve_forever, args=(POLL_S,), daemon=True).start()
        self._stack.callback(door.shutdown)


class Door(socketserver.ThreadingTCPServer):
    """A listener on the bridge whose threads do not outlive the process."""

    daemon_threads = True


class Passage(socketserver.BaseRequestHandler):
    """One connection, carried on to the same port of the loopback."""

    def handle(self) -> None:
        """Carry both ways until both sides have ended."""
        with socket.create_connection((LOOPBACK, self.request.getsockname()[1])) as inside:
            back = threading.Thread(target=carry, args=(inside, self.request), daemon=True)
            back.start()
            carry(self.request, inside)
            back.join()


def carry(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until the source ends, and tell the sink; a peer that has gone already is no news."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
