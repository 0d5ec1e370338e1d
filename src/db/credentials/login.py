"""Which credentials to try, in what order, while one connection is being opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .source import Credentials, Source


class Login:
    """The credentials for one connection, through refusals.

    First what the source has. After a refusal what it has past every cache; where that was refused already, what a
    rotation has staged: a single-user rotation sets the password in the database before it moves AWSCURRENT, and for
    those seconds the staged one alone works. Where that was refused too, nothing new is to be had before some time has
    passed, and then all of it is asked for again. The user comes with the password, so a rotation between two users is
    nothing special.
    """

    def __init__(self, source: Source | None) -> None:
        self._source = source
        self._given: Credentials | None = None
        self._refused: set[tuple[str, str]] = set()

    def credentials(self) -> Credentials | None:
        """What to try now; None where the URL says it. Raises CredentialsError."""
        if self._given is None and self._source is not None:
            self._given = self._source.current()
        return self._given

    def renew(self) -> bool:
        """Look for others, since the server refused these. False where there are none that it has not refused.

        Raises CredentialsError.
        """
        given = self.credentials()
        if self._source is None or given is None:
            return False
        self._refused.add(_pair(given))
        found: Credentials | None = self._source.refresh(given)
        if found is not None and _pair(found) in self._refused:
            found = self._source.staged()
        if found is None or _pair(found) in self._refused:
            return False
        self._given = found
        return True

    def waited(self) -> None:
        """Some time has passed: what was refused may be accepted by now."""
        self._refused.clear()


def _pair(credentials: Credentials) -> tuple[str, str]:
    return credentials.username, credentials.password
