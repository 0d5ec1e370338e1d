"""The log lines of the layer that are of no one connection, and the logger that all of them go through."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger

from db.errors import DOCUMENTATION, verdict
from db.settings.engines.kinds import kind_named
from db.timing.invocation import current_invocation

from .statement_events import LOGGED_SQL_CHARS, named

if TYPE_CHECKING:
    from typing import TextIO

    from .repeated_statements import Repeats

_HERE = str(Path(__file__).parents[1]) + os.sep

# No service of its own: Powertools then shares the handler's logger, and with it level, keys and correlation id.
logger = Logger()


class _StderrHandler(logging.StreamHandler["TextIO"]):
    """Writes to whatever ``sys.stderr`` is at the time, as logging's handler of last resort does."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # nobody sets it
        return sys.stderr


def _is_ours(record: logging.LogRecord) -> bool:
    return record.pathname.startswith(_HERE)


def _is_anothers(record: logging.LogRecord) -> bool:
    return not _is_ours(record)


def _leave_stdout(shared: logging.Logger) -> None:
    """Have our lines go to stderr, where they would to stdout, and all that others log through it go where it went.

    Lambda reads both streams. Anywhere else stdout is a script's result, of which `alembic current | ...` is one.
    """
    for handler in list(shared.handlers):
        if getattr(handler, "stream", None) is sys.stdout:
            ours = _StderrHandler()
            ours.addFilter(_is_ours)
            ours.setFormatter(handler.formatter)  # one object: keys that are appended to it are in our lines, too
            handler.addFilter(_is_anothers)
            shared.addHandler(ours)


# The one of logging's below it, whose level is asked for without a call.
LOGGED: logging.Logger = logger._logger  # noqa: SLF001 - Powertools has no name for it
if "AWS_LAMBDA_RUNTIME_API" not in os.environ:
    _leave_stdout(LOGGED)

# Powertools' Logger has no log(level, ...).
WRITE = {logging.DEBUG: logger.debug, logging.INFO: logger.info, logging.WARNING: logger.warning}

LOGGED_REPEATS = 5  # statements of one invocation


_WHILE_IT_RUNS = f"{DOCUMENTATION}run/check/#while-it-runs"

# Each names the database that it is about, where that is not the default one.


def _of(database: str | None) -> dict[str, str]:
    return {} if database is None else {"database": database}


def warn_of_echo(*, echo: str, echo_pool: str, prefix: str, database: str | None) -> None:
    """Say that echo is on where each line of it is paid for."""
    said = {f"{prefix}ECHO": echo, f"{prefix}ECHO_POOL": echo_pool}
    logger.warning("SQL echo is on inside Lambda", extra={**_of(database), **said})


def warn_of_lost_loop() -> None:
    """Say that a handler runs on an event loop of its own each time, and connects each time."""
    logger.warning(
        "pooled connections lost with their event loop: make the handler async def, and db.invocation keeps one",
        extra={
            "connection_event": "lost loop",
            "request_id": current_invocation().request_id,
            "see": _WHILE_IT_RUNS,
        },
    )


def warn_of_cold_start(error: Exception) -> None:
    """Say that Init did not connect, and why."""
    logger.warning(
        "no connection in Init (DB_WARM): the first use connects",
        extra={"connection_event": "not warm", "reason": f"{type(error).__name__}: {error}"},
    )


def warn_of_no_invocation() -> None:
    """Say that the handler is not decorated, and what is missing for that."""
    logger.warning(
        "the handler lacks @db.invocation: its statements know no deadline, and nothing is settled at its end",
        extra={"connection_event": "no invocation", "see": f"{DOCUMENTATION}run/lifecycle/"},
    )


_said_to_be_unchecked: set[tuple[str, str]] = set()


def warn_of_unchecked_tenants(engine: str, *, prefix: str) -> None:
    """Say, once, that tenants are named and nothing keeps them apart."""
    if (engine, prefix) not in _said_to_be_unchecked:
        _said_to_be_unchecked.add((engine, prefix))
        logger.warning(
            "tenants are not kept apart: %s shows every row to each of them, as %sSQLITE_TENANTS=unchecked allows",
            engine,
            prefix,
            extra={"see": f"{DOCUMENTATION}start/from-sqlalchemy/#sqlite"},
        )


_metrics_lost = False  # said once


def warn_of_lost_metrics(error: Exception) -> None:
    """Say, once a process, that OpenTelemetry could not send what it has at the end of an invocation."""
    global _metrics_lost  # noqa: PLW0603 - it is said once a process
    if not _metrics_lost:
        _metrics_lost = True
        line = {"see": f"{DOCUMENTATION}run/observability/#metrics", "error": named(error)}
        logger.warning("OpenTelemetry metrics could not be sent at the end of the invocation", extra=line)


_said_to_be_unbound: set[str | None] = set()


def warn_of_superuser(database: str | None) -> None:
    """Say, once for each database, that tenants are named and the login sees the rows of all of them."""
    if database not in _said_to_be_unbound:
        _said_to_be_unbound.add(database)
        logger.warning(
            "tenants are not kept apart: the login is a superuser, whom no policy binds",
            extra={"connection_event": "superuser", **_of(database), "see": f"{DOCUMENTATION}start/tenants/"},
        )


_said_to_be_rebuilt: set[str | None] = set()


def warn_of_rebuilding(database: str | None) -> None:
    """Say, once for each database, that invocations build its engine anew, and so connect each time."""
    if database not in _said_to_be_rebuilt:
        _said_to_be_rebuilt.add(database)
        logger.warning(
            "invocations build an engine anew: call db.configure, or make the db.Database, where the module is loaded, "
            "and keep it",
            extra={"connection_event": "rebuilt", **_of(database), "see": _WHILE_IT_RUNS},
        )


_said_to_be_waited_for: set[str | None] = set()


def warn_of_pool_wait(waited_s: float, *, more: str, database: str | None) -> None:
    """Say, once for each database, that its pool is smaller than what is done at once; ``more`` is what widens it."""
    if database not in _said_to_be_waited_for:
        _said_to_be_waited_for.add(database)
        logger.warning(
            "a connection of the pool was waited for: do less at once, or %s",
            more,
            extra={
                "connection_event": "pool wait",
                **_of(database),
                "waited_s": round(waited_s, 3),
                "see": _WHILE_IT_RUNS,
            },
        )


_said_to_be_unread: set[str] = set()


def warn_of_unread(names: list[str], *, prefix: str) -> None:
    """Say, once for each name, that it looks like a setting and has no effect."""
    if new := [name for name in names if name not in _said_to_be_unread]:
        _said_to_be_unread.update(new)
        logger.warning(
            "variables that begin with %s and are no settings have no effect: %sIGNORE takes the names of those that "
            "are another program's",
            prefix,
            prefix,
            extra={"variables": new, "see": f"{DOCUMENTATION}reference/settings/#names-that-are-none"},
        )


_said_to_be_left: set[tuple[str, str, str | None]] = set()


def warn_of_leftovers(kinds: set[str], *, by: str, database: str | None, dialect: str) -> None:
    """Say, once for each kind, that something was left on a session, which is not kept for that; and what to do."""
    if new := sorted(kind for kind in kinds if (by, kind, database) not in _said_to_be_left):
        _said_to_be_left.update((by, kind, database) for kind in new)
        engine = kind_named(dialect)
        logger.warning(
            "%s left something on its session, so its connection is not kept: %s",
            by,
            engine.instead_of_leftovers if engine is not None else "",
            extra={
                "connection_event": "leftovers",
                **_of(database),
                "left": new,
                "request_id": current_invocation().request_id,
            },
        )


def warn_of_leak(checked_out: int, *, database: str | None) -> None:
    """Say that the handler returned with connections still checked out: they idle in transaction over the freeze."""
    now = current_invocation()
    logger.warning(
        "the handler returned with connections checked out",
        extra={
            "connection_event": "leak",
            **_of(database),
            "checked_out": checked_out,
            "request_id": now.request_id,
            "see": _WHILE_IT_RUNS,
        },
    )


def log_shutdown(*, closed: int, cancelled: int, failed: int, duration_ms: float) -> None:
    """Say what the end of the environment did, and, where it cut an invocation short, which."""
    now = current_invocation()
    facts = {"closed": closed, "cancelled": cancelled, "failed": failed, "duration_ms": duration_ms}
    line = {"connection_event": "shutdown", "request_id": now.request_id, **facts}
    (logger.warning if failed else logger.info)("database shutdown", extra=line)


def log_no_shutdown_hook(reason: str) -> None:
    """Say why this environment will end unheard; at DEBUG, for its connections end with its process all the same."""
    logger.debug("no shutdown hook", extra={"connection_event": "shutdown", "reason": reason})


def warn_of_repeats(repeats: Repeats | None, *, budget: int, database: str | None) -> None:
    """Say which statements an invocation ran more than ``budget`` times; 0 asks for none."""
    if repeats is None or not budget:
        return
    for found, runs in repeats.beyond(budget)[:LOGGED_REPEATS]:
        line = {
            "connection_event": "repeated statement",
            "database": database,
            "fingerprint": found.id,
            "statement": found.text[:LOGGED_SQL_CHARS],
            "runs": runs.count,
            "duration_ms": round(runs.duration_ms, 3),
            "place": runs.place,
            "request_id": current_invocation().request_id,
        }
        logger.warning("statement repeated", extra={key: value for key, value in line.items() if value is not None})


def warn_of_reader(reason: str, *, away_s: float, database: str | None) -> None:
    """Say that reads go to the writer for a while, and why."""
    logger.warning(
        "the reader is out of use: reads go to the writer",
        extra={"connection_event": "reader away", **_of(database), "reason": reason, "away_s": away_s},
    )


def log_answered_failure(error: BaseException, *, status: int) -> None:
    """Say what failed, for a client that is told a status and no more."""
    logger.error(
        "request failed",
        exc_info=error,
        extra={"status": status, "request_id": current_invocation().request_id, "verdict": verdict(error).value},
    )


def log_retry(error: BaseException, *, attempt: int, delay_s: float) -> None:
    """Say that a transaction is tried again, and why."""
    now = current_invocation()
    logger.warning(
        "transaction retried",
        extra={
            "connection_event": "retry",
            **_of(getattr(error, "database", None)),
            "attempt": attempt,
            "delay_s": round(delay_s, 3),
            "error": named(error),
            "verdict": verdict(error).value,
            "request_id": now.request_id,
        },
    )
