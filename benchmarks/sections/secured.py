"""As in a VPC: under TLS with the server's certificate checked, the password by SCRAM, the server a trip away."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cores import aside
from benchmarks.peers.ours import Ours
from benchmarks.peers.with_psycopg import Psycopg
from benchmarks.peers.with_sqlalchemy import SqlAlchemy, SqlAlchemyPrePing
from benchmarks.place import Place
from benchmarks.releases import NEWEST, installation, run
from benchmarks.workers import Worker
from benchmarks.works import Work
from devkit.network.wire import Wire
from devkit.servers.postgres import Postgres
from devkit.servers.postgres_install import give, unprivileged_account

from . import cpu, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.peers.peer import Peer
    from benchmarks.plan import Plan
    from benchmarks.series import Series

WHERE = "TLS and SCRAM"
DELAY_MS = 1.0
PEERS: tuple[type[Peer], ...] = (Ours, SqlAlchemyPrePing, SqlAlchemy, Psycopg)
CPU = (Work.FIRST, Work.READ, Work.WRITE, Work.BOUND_WRITE)
LATENCY = (Work.FIRST, Work.WRITE, Work.BOUND_WRITE)


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """Trips, CPU on loopback, and latency with a millisecond on each trip: the server on the other core."""
    with aside() as cores, certificate() as folder, contextlib.ExitStack() as running:
        settings = {"ssl": "on", "ssl_cert_file": str(folder / "cert"), "ssl_key_file": str(folder / "key")}
        postgres = running.enter_context(Postgres(installation=installation(NEWEST), settings=settings))
        place = running.enter_context(Place(postgres, roots=folder / "cert"))
        tell("secured: round trips")
        series = [one for peer in PEERS for one in wire.counted(peer, place, plan.warm_up, where=WHERE)]
        tell("secured: CPU")
        workers = [running.enter_context(Worker(peer, place.url(), cores.client)) for peer in PEERS]
        series += cpu.of(workers, CPU, WHERE, rounds=plan.further_rounds, times=plan.cpu_times)
        tell(f"secured: {DELAY_MS:g} ms")
        port = running.enter_context(Wire(place.host, place.port, delay_s=DELAY_MS / 1000)).port
        workers = [running.enter_context(Worker(peer, place.url(port), cores.client)) for peer in PEERS]
        for work in LATENCY:
            series += wire.latency(workers, work, plan, DELAY_MS, where=WHERE)
        return series


@contextlib.contextmanager
def certificate() -> Iterator[Path]:
    """A folder with ``cert``, which is its own authority, and ``key``, for who runs the server."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)  # the server's account is not this one's, under root
        new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1")
        written = ("-keyout", folder / "key", "-out", folder / "cert")
        run(["openssl", *new, "-addext", "subjectAltName=IP:127.0.0.1", *written])
        for name in ("key", "cert"):
            give(folder / name, unprivileged_account())
        yield folder
    finally:
        shutil.rmtree(folder)
