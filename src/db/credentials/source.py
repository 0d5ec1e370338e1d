"""``Credentials``, and a source of them for each way in that a Lambda function has.

A source answers ``current()`` from its cache while that is fresh, and ``refresh(rejected)`` after the server refused
what it gave. Whoever connects asks the source each time, so nothing is ever frozen into an engine; ``login`` says in
which order.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from db.errors import CredentialsError
from db.timing.invocation import current_invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


MASK = "***"
DEFAULT_PORT = 5432
_OF_AWS = {"boto3", "botocore", "urllib3", "s3transfer"}


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A user and a password, and what the secret says of the place. The password never prints."""

    username: str
    password: str = field(repr=False)
    host: str | None = None
    port: int | None = None
    database: str | None = None
    version: str | None = None  # Secrets Manager's VersionId: tells one fetch from another
    fetched_at: float  # wall clock

    def __str__(self) -> str:
        return f"{self.username}:{MASK}"


class Source(Protocol):
    """Gives credentials. All but ``forget`` raise CredentialsError."""

    def current(self) -> Credentials:
        """Credentials believed to be right, from the cache where it is fresh."""
        ...

    def refresh(self, rejected: Credentials) -> Credentials:
        """Credentials fetched past every cache, since the server refused ``rejected``.

        The answer may be the same again: then there is nothing newer yet.
        """
        ...

    def staged(self) -> Credentials | None:
        """Credentials that are to become current, where that can be known: a rotation is under way."""
        ...

    def forget(self) -> None:
        """Drop every copy: the next connect asks anew."""
        ...

    def part(self) -> None:
        """This is a forked child: whoever asks in the parent is not here."""
        ...


class _Quiet(logging.Filter):
    """Passes no line at DEBUG from within a block of ``no_debug_lines``, and all others."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or not _quiet.get()


_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("db_quiet", default=False)
_filter = _Quiet()


@contextlib.contextmanager
def no_debug_lines() -> Iterator[None]:
    """AWS's libraries log nothing at DEBUG from here: they would write the secret's body, or the token's signature.

    Only what this thread does is meant, and only their lines: a request may hang for long, and the rest of the process
    has lines of its own to write.
    """
    _keep_quiet()
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


@contextlib.contextmanager
def takes_boto3() -> Iterator[None]:
    """For imports of boto3 and botocore: raises CredentialsError that says who brings them, where they are missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CredentialsError(
            "secrets and tokens take boto3, which is not installed. Lambda's runtime brings it; elsewhere:"
            " pip install 'serverless-data-access[aws]'"
        ) from error


@contextlib.contextmanager
def looks_for_keys() -> Iterator[None]:
    """For what botocore reads of its own configuration: raises CredentialsError, as where there is no such profile."""
    from botocore.exceptions import BotoCoreError

    try:
        yield
    except BotoCoreError as error:
        raise CredentialsError(f"AWS is not set up for this process ({type(error).__name__}: {error})") from error


def _keep_quiet() -> None:
    # A filter holds for its own logger alone. Those that show a value are named, for they may not be loaded yet.
    named = ("botocore.parsers", "botocore.endpoint", "botocore.auth", "botocore.hooks", "urllib3.connectionpool")
    loaded = (name for name in list(logging.root.manager.loggerDict) if name.partition(".")[0] in _OF_AWS)
    for name in {*named, *loaded}:
        logging.getLogger(name).addFilter(_filter)  # a second time it does nothing


class OneAsker:
    """Has one of the threads that want the same ask for it, while the others wait for what it gets.

    They wait within an invocation and a process only, and no longer than ``PATIENCE_S``: whoever asked may be left
    over from an earlier one, or from before a fork, with a request that nobody answers.
    """

    PATIENCE_S = 5.0

    def __init__(self) -> None:
        self._lock = threading.Lock()  # never held around a request
        self._asking: tuple[object, Future[Credentials]] | None = None

    def part(self) -> None:
        """Wait for nobody: in a forked child, the thread that asked is not there."""
        self._lock, self._asking = threading.Lock(), None

    def ask(self, ask: Callable[[], Credentials]) -> Credentials:
        """What ``ask()`` gives or raises, here or in the thread that asks already."""
        mine: Future[Credentials] = Future()
        now = current_invocation()
        with self._lock:
            asking = self._asking
            if asking is None or asking[0] is not now:
                asking, self._asking = None, (now, mine)
        if asking is not None:
            try:
                return asking[1].result(self.PATIENCE_S)
            except (TimeoutError, CancelledError):
                return ask()
            except CredentialsError as error:
                raise CredentialsError(str(error), transient=error.transient) from error
        try:
            mine.set_result(found := ask())
        except Exception as error:
            mine.set_exception(error)
            raise
        except BaseException:
            mine.cancel()
            raise
        finally:
            with self._lock:
                if self._asking is not None and self._asking[1] is mine:
                    self._asking = None
        return found
