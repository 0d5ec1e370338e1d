"""What can be said without a connection: where settings come from, names that are none, packages, and the pool."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING, Any

from db.settings import fields

from .finding import not_applicable, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from db.settings import Settings

    from .finding import Finding

# By setting, what a URL calls it. A secret may hold all four.
_OF_THE_PLACE = {"host": "host", "port": "port", "name": "database", "user": "username"}
_PACKAGES = (
    "sqlalchemy",
    "psycopg",
    "psycopg-binary",
    "asyncpg",
    "pymysql",
    "alembic",
    "aws-lambda-powertools",
    "boto3",
    "orjson",
)
# https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
_NAT_FORGETS_S = 350


def origins(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """For each setting, by its variable, where its value comes from."""
    return {settings.prefix + f.name.upper(): _origin(settings, environ, f) for f in fields()}


def _origin(settings: Settings, environ: Mapping[str, str], f: Any) -> str:
    value, raw = getattr(settings, f.name), environ.get(settings.prefix + f.name.upper(), "").strip()
    if raw and (f.name == "url" or _read(f, raw) == value):
        return "the environment"
    if value is not None:
        return "default" if value in (f.default, {}) else "code"
    part = _OF_THE_PLACE.get(f.name)
    if part is not None and settings.source == "url":
        return "the URL" if getattr(settings.url, part) is not None else "default"
    return "the secret" if part is not None and settings.source == "secret" else "default"


def names(settings: Settings, ignored: Sequence[str]) -> Finding:
    """Of variables that begin as settings do. One that resembles a setting is refused with the settings."""
    if not ignored:
        return ok("names", "no variable looks like a setting and is none")
    return warning(
        "names",
        f"variables without effect: {', '.join(ignored)}",
        f"Correct them, or name those of another program in {settings.prefix}IGNORE.",
        "reference/settings/#names-that-are-none",
    )


def packages() -> Finding:
    """The versions that are loaded. One that is too old is refused when ``db`` is imported."""
    found = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    from psycopg import pq

    found.append(f"libpq {pq.version() // 10000}.{pq.version() % 10000} ({pq.__impl__})")
    if pq.__impl__ == "python":
        return warning(
            "packages",
            ", ".join(found),
            "psycopg runs without its C implementation, at a multiple of the CPU: install psycopg[binary].",
            "start/packaging/",
        )
    return ok("packages", ", ".join(found))


def pool(settings: Settings) -> Iterator[Finding]:
    """How many connections an environment takes, whether one that is dead is noticed, and whether they are closed."""
    in_lambda, prefix = settings.function_name is not None, settings.prefix
    if not settings.engine_kind.is_server:
        for subject in ("pool size", "liveness", "end"):
            yield not_applicable(subject, f"{settings.engine_kind.title} is no server")
        return
    most = most_connections(settings)
    if in_lambda and most > 1:
        yield warning(
            "pool size",
            f"an environment takes up to {most} connections, and serves one event at a time",
            f"Leave {prefix}POOL_SIZE and {prefix}MAX_OVERFLOW out, unless the handler works in {most} threads.",
            "run/plan/",
        )
    else:
        yield ok("pool size", f"{settings.pool}: up to {most} connections of this process")
    if settings.pool != "queue":
        yield not_applicable("liveness", f"{prefix}POOL={settings.pool} keeps no connection")
        yield not_applicable("end", f"{prefix}POOL={settings.pool} keeps no connection")
        return
    yield _liveness(settings)
    if in_lambda and not settings.shutdown_hook:
        yield warning(
            "end",
            f"{prefix}SHUTDOWN_HOOK is off: nobody closes the connections of an environment that Lambda ends",
            f"Leave it out, or take {prefix}POOL=null.",
            "run/lifecycle/#shutdown-and-timeout",
        )
    else:
        yield ok("end", "connections are closed with the process")


def _liveness(settings: Settings) -> Finding:
    if not settings.pool_pre_ping:
        return warning(
            "liveness",
            f"{settings.prefix}POOL_PRE_PING is off: a kept connection that died fails the next unit of work",
            "Leave it out: with psycopg it costs no trip.",
            "run/lifecycle/",
        )
    if settings.pool_idle_s > _NAT_FORGETS_S:
        return warning(
            "liveness",
            f"connections may idle for {settings.pool_idle_s:g} s, and a NAT gateway forgets them after "
            f"{_NAT_FORGETS_S} s",
            f"Set {settings.prefix}POOL_IDLE_S below that.",
            "reference/settings/",
        )
    return ok("liveness", f"looked at before use, and replaced after {settings.pool_idle_s:g} s of idling")


def log(settings: Settings) -> Finding:
    """Whether lines are paid for that nobody reads, or hold what nobody is to read."""
    prefix = settings.prefix
    on = [name for name, mode in (("ECHO", settings.echo), ("ECHO_POOL", settings.echo_pool)) if mode != "off"]
    if settings.function_name is not None and on:
        seen = f"{' and '.join(prefix + name for name in on)}: each statement writes lines of the log, which cost"
        return warning("log", seen, "Leave it out, but for a while of looking.", "run/observability/")
    if settings.function_name is not None and not settings.hide_parameters:
        seen = f"{prefix}HIDE_PARAMETERS is off: values of rows stand in exceptions, and so in the log"
        return warning("log", seen, "Leave it out.", "run/observability/")
    return ok("log", "no echo in it, and no value of a row from SQLAlchemy" if settings.hide_parameters else "no echo")


def most_connections(settings: Settings) -> int:
    """How many of one process there may be, without those of ``db.aio``."""
    return settings.pool_size + settings.max_overflow


def _read(f: Any, raw: str) -> Any:
    try:
        return f.metadata["kind"].convert(raw)
    except ValueError:
        return None
