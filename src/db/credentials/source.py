"""``Credentials``, and a source of them for each way in that a Lambda function has.

A source answers ``current()`` from its cache while that is fresh, and ``refresh(rejected)`` after the server refused
what it gave. Whoever connects asks the source each time, so nothing is ever frozen into an engine; ``login`` says in
which order.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


MASK = "***"
DEFAULT_PORT = 5432
_one_at_a_time = threading.Lock()


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


@contextlib.contextmanager
def no_debug_lines() -> Iterator[None]:
    """Nothing logs at DEBUG in this block: botocore would write the secret's body, or the token's signature."""
    with _one_at_a_time:  # the switch is the process's: two blocks that overlap would restore each other's
        before = logging.root.manager.disable
        logging.disable(max(before, logging.DEBUG))
        try:
            yield
        finally:
            logging.disable(before)
