"""A Docker engine: the machine's own where one answers, or a private one.

Root on Debian gets the private one: `dockerd` by hand, on a socket and in a folder of its own, gone when the block
ends. What it has built or pulled stays in the cache folder. The image that it runs is `image`'s matter.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devkit.servers.cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# overlay2 cannot lie on an overlay, which is what a folder inside a container is; vfs copies instead and always can.
STORAGE_DRIVERS = ("overlay2", "vfs")
START_S = 30.0
STOP_S = 20.0


class DockerError(RuntimeError):
    """No engine or no image, and why."""


def run(
    command: Sequence[str | Path], *, timeout_s: float | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program quietly; what it said is in the error when it fails."""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=timeout_s, env=env, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise DockerError(f"{' '.join(map(str, command[:4]))} ... ended with {done.returncode}:\n{tail}")
    return done


@dataclass(frozen=True)
class Engine:
    """An engine that answers. `host` is empty for the one that the machine brings."""

    host: str = ""

    def environment(self) -> dict[str, str]:
        """What a child process needs to find this engine."""
        return {**os.environ, **({"DOCKER_HOST": self.host} if self.host else {})}

    def docker(self, *arguments: str | Path, timeout_s: float | None = None) -> str:
        """The standard output of a docker command."""
        return run(["docker", *arguments], timeout_s=timeout_s, env=self.environment()).stdout.strip()

    def answers(self) -> bool:
        """Whether a server is behind the socket: `docker info` without one succeeds too."""
        if shutil.which("docker") is None:
            return False
        try:
            return bool(self.docker("info", "--format", "{{.ServerVersion}}", timeout_s=10))
        except (DockerError, subprocess.TimeoutExpired):
            return False

    def gateway(self) -> str:
        """The host's IPv4 address as a container of the default network sees it."""
        listed = json.loads(self.docker("network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}"))
        for one in listed:
            network = ipaddress.ip_network(one["Subnet"])
            if network.version == 4:  # noqa: PLR2004 - of the Internet Protocol
                # An engine that has just made its bridge names no gateway; it is the first address all the same.
                return str(one.get("Gateway") or network[1])
        raise DockerError("Docker's default network has no IPv4 subnet")


@contextmanager
def engine() -> Iterator[Engine]:
    """The machine's engine, or a private one for the length of the block."""
    own = Engine()
    if own.answers():
        yield own
        return
    if os.geteuid() != 0:
        raise DockerError("no Docker engine answers (`docker info`), and only root can start a private one")
    need("dockerd", "docker.io")
    need("docker", "docker-cli")  # a part of docker.io until Debian 12
    if own.answers():  # installing the package may have started the service
        yield own
        return
    with turn(), private_engine() as private:
        yield private


@contextmanager
def turn() -> Iterator[None]:
    """One private engine at a time: two cannot share the folder that makes the second run fast."""
    with (cache_folder() / "docker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def private_engine() -> Iterator[Engine]:
    """A `dockerd` on a socket of its own, ended by its process id.

    It changes no firewall rule: containers reach the host over the bridge and nothing beyond, which is all they need.
    """
    bridge = Path("/sys/class/net/docker0")
    found = bridge.exists()
    with tempfile.TemporaryDirectory(prefix="dockerd-") as temporary:
        daemon, server = start(Path(temporary))
        try:
            yield server
        finally:
            end(daemon)
            if not found and bridge.exists() and shutil.which("ip"):
                run(["ip", "link", "delete", "docker0"])


def start(folder: Path) -> tuple[subprocess.Popen[bytes], Engine]:
    """The first storage driver that the cache folder's file system supports."""
    said = []
    for driver in STORAGE_DRIVERS:
        place = folder / driver
        place.mkdir()
        server = Engine(f"unix://{place}/docker.sock")
        with (place / "log").open("wb") as log:
            daemon = subprocess.Popen(command(driver, place, server), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if ready(daemon, server):
            return daemon, server
        end(daemon)
        said.append(f"{driver}: " + "\n".join((place / "log").read_text(errors="replace").splitlines()[-5:]))
    raise DockerError("dockerd does not start:\n" + "\n".join(said))


def command(driver: str, place: Path, server: Engine) -> list[str]:
    """How the private engine is called: everything it writes lies in its two folders."""
    return [
        "dockerd",
        f"--host={server.host}",
        f"--data-root={cache_folder() / 'docker'}",
        f"--exec-root={place / 'exec'}",
        f"--pidfile={place / 'pid'}",
        f"--storage-driver={driver}",
        "--iptables=false",
        "--ip6tables=false",
    ]


def ready(daemon: subprocess.Popen[bytes], server: Engine) -> bool:
    """Wait until the engine answers, gives up, or has taken too long."""
    deadline = time.monotonic() + START_S
    while daemon.poll() is None and time.monotonic() < deadline:
        if server.answers():
            return True
        time.sleep(0.2)
    return False


def end(daemon: subprocess.Popen[bytes]) -> None:
    """SIGTERM lets dockerd stop its containerd; a killed one would leave it behind."""
    daemon.terminate()
    try:
        daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def need(program: str, package: str) -> None:
    """Install a Debian package for a program that is absent, without letting it start a service."""
    if shutil.which(program):
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise DockerError(f"{program} is absent; installing {package} needs root on Debian")
    print(f"installing {package}", flush=True)
    policy = Path("/usr/sbin/policy-rc.d")
    written = not policy.exists()
    if written:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(["apt-get", "update", "-qq"], env=quiet)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], env=quiet)
    finally:
        if written:
            policy.unlink()
