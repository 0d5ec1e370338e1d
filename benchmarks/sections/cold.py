"""Cold starts: from the start of the process to the first row, in Lambda's own runtime client under its emulator.

Each start is a new environment of a new process. ``/var/task`` and ``/opt`` are read-only in Lambda, so what has no
bytecode is compiled at every start; here, where root may write everywhere, Python is told not to.

Once more a round, a trip to Secrets Manager takes 5 ms and one to the database 1 ms. Beside it stands what that start
takes where nothing else is done while it waits: the near one of the same round, and the delay of each of its trips.
"""

from __future__ import annotations

import contextlib
import ctypes
import secrets
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.cold import builds
from benchmarks.place import Place
from benchmarks.series import Series
from benchmarks.works import NOTE
from devkit.lambda_runtime.environment import LambdaEnvironment
from devkit.network.wire import Wire
from devkit.servers.aws import LocalAws
from devkit.servers.postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.cold.builds import Artifact
    from benchmarks.plan import Plan

OURS = "db"
USUAL = "SQLAlchemy ORM, Powertools parameters"
BY_HAND = "psycopg, boto3"
FLOOR = "SQLAlchemy, psycopg: the floor"
COMPILED = f"{USUAL}, compiled"
RUNTIME_SDK = ", boto3 of the runtime"
WORK = "cold start"

SECRET_DELAY_MS, DATABASE_DELAY_MS = 5, 1
FAR = f"cold start, {SECRET_DELAY_MS} ms to Secrets Manager, {DATABASE_DELAY_MS} ms to the database"
IN_SEQUENCE = "in_sequence_us"

# What each has in its requirements.txt. Lambda's runtime brings a boto3, with bytecode. AWS advises to package one all
# the same, so that none changes under the function: that is the usual way. Without it the names end in RUNTIME_SDK.
# https://docs.aws.amazon.com/lambda/latest/dg/python-package.html#python-package-dependencies
REQUIREMENTS = {
    USUAL: ("usual", ("sqlalchemy", "psycopg[binary]", "aws-lambda-powertools", "boto3")),
    BY_HAND: ("by_hand", ("psycopg[binary]", "boto3")),
    USUAL + RUNTIME_SDK: ("usual", ("sqlalchemy", "psycopg[binary]", "aws-lambda-powertools")),
    BY_HAND + RUNTIME_SDK: ("by_hand", ("psycopg[binary]",)),
}

ENDPOINT = "AWS_ENDPOINT_URL_SECRETS_MANAGER"
MEMORY_MB = 1024
TIMEOUT_S = 30


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Series]:
    """CPU and wall time of each start, the functions in turn, and the size of what is deployed."""
    with tempfile.TemporaryDirectory() as name, Postgres() as postgres, Place(postgres) as place, LocalAws() as aws:
        folder = Path(name)
        tell("cold: builds")
        python = builds.runtime(folder / "runtime")
        artifacts = build(folder)
        environment = _environment(aws, place)
        taken: dict[str, list[tuple[int, int]]] = {variant: [] for variant in artifacts}
        far: list[tuple[int, int]] = []
        for number in range(plan.cold_warm_ups + plan.cold_starts):
            tell(f"cold: start {number + 1} of {plan.cold_warm_ups + plan.cold_starts}")
            for variant, artifact in artifacts.items():
                taken[variant].append(start(artifact, python, environment))
                if variant == OURS:  # next to the one that it is compared with
                    far.append(_from_afar(artifact, python, environment, place))
        taken = {variant: starts[plan.cold_warm_ups :] for variant, starts in taken.items()}
        return [
            *(series for variant in artifacts for series in _series(variant, artifacts[variant], taken[variant])),
            *_far_series(taken[OURS], far[plan.cold_warm_ups :]),
        ]


def build(folder: Path) -> dict[str, Artifact]:
    """Every artifact by its variant."""
    (folder / "ours").mkdir()
    artifacts = {OURS: builds.ours(folder / "ours")}
    for number, (variant, (handler, requirements)) in enumerate(REQUIREMENTS.items()):
        artifacts[variant] = builds.by_default(folder / str(number), handler, requirements)
    artifacts[COMPILED] = builds.compiled(artifacts[USUAL], folder / "compiled")
    artifacts[FLOOR] = builds.beside(artifacts[OURS], folder / "floor", "floor")
    return artifacts


def start(artifact: Artifact, python: Path, environment: Mapping[str, str]) -> tuple[int, int]:
    """One cold start: microseconds of CPU, of the whole process, and of wall clock, as the caller has them."""
    with LambdaEnvironment(
        handler=artifact.handler,
        environment=environment,
        code=artifact.code,
        timeout_s=TIMEOUT_S,
        memory_mb=MEMORY_MB,
        python=python,
    ) as function:
        started = time.perf_counter_ns()
        invocation = function.invoke({"id": NOTE})
        wall_us = (time.perf_counter_ns() - started) // 1000
        if invocation.payload != {"hits": 0}:
            raise RuntimeError(f"{artifact.handler} answered {invocation.payload}:\n" + "\n".join(function.logs))
        pid = function.runtime_pid()
        if pid is None:
            raise RuntimeError(f"{artifact.handler} has no process left to ask for its CPU time")
        return cpu_us(pid), wall_us


def _from_afar(artifact: Artifact, python: Path, environment: Mapping[str, str], place: Place) -> tuple[int, int]:
    """One cold start where trips take time: microseconds of wall clock, and those that its trips took together."""
    with contextlib.ExitStack() as running:
        asked = urlsplit(environment[ENDPOINT])
        secret = running.enter_context(Wire(str(asked.hostname), asked.port or 0, delay_s=SECRET_DELAY_MS / 1000))
        database = running.enter_context(Wire(place.host, place.port, delay_s=DATABASE_DELAY_MS / 1000))
        apart = {ENDPOINT: f"http://{asked.hostname}:{secret.port}", "DB_PORT": str(database.port)}
        _, wall_us = start(artifact, python, {**environment, **apart})
        waits_ms = secret.counts().trips * SECRET_DELAY_MS + database.counts().trips * DATABASE_DELAY_MS
        return wall_us, waits_ms * 1000


def cpu_us(pid: int) -> int:
    """User and system time of a process, with all the threads that it has and had, in microseconds.

    The kernel counts it in nanoseconds, where /proc shows hundredths of a second.
    """
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(ctypes.c_int(pid), ctypes.byref(clock))
    if error:
        raise OSError(error, f"there is no CPU clock for process {pid}")
    return time.clock_gettime_ns(clock.value) // 1000


def _environment(aws: LocalAws, place: Place) -> dict[str, str]:
    secret_id = f"benchmarks-{secrets.token_hex(4)}"
    aws.put_secret(
        secret_id,
        {
            "engine": "postgres",
            "host": place.host,
            "port": place.port,
            "dbname": place.name,
            "username": place.user,
            "password": place.password,
        },
    )
    return {
        **aws.environment(),
        "DB_SECRET_ID": secret_id,
        "FLOOR_URL": f"postgresql+psycopg://{place.user}:{place.password}@{place.host}:{place.port}/{place.name}",
        "POWERTOOLS_SERVICE_NAME": "benchmarks",
        "POWERTOOLS_METRICS_NAMESPACE": "Benchmarks",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _far_series(near: list[tuple[int, int]], far: list[tuple[int, int]]) -> Iterator[Series]:
    walls: list[list[float]] = [[wall] for wall, _ in far]
    in_sequence: list[list[float]] = [[wall + waits] for (_, wall), (_, waits) in zip(near, far, strict=True)]
    yield Series(peer=OURS, work=FAR, measure="wall_us", rounds=walls)
    yield Series(peer=OURS, work=FAR, measure=IN_SEQUENCE, rounds=in_sequence)


def _series(variant: str, artifact: Artifact, taken: list[tuple[int, int]]) -> list[Series]:
    return [
        Series(peer=variant, work=WORK, measure="cpu_us", rounds=[[cpu] for cpu, _ in taken]),
        Series(peer=variant, work=WORK, measure="wall_us", rounds=[[wall] for _, wall in taken]),
        Series(peer=variant, work="artifact", measure="bytes", rounds=[[artifact.bytes()]]),
    ]
