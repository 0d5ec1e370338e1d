"""The secret with the password, as its versions, and what an environment knows of it."""

from __future__ import annotations

from db.credentials.source import Credentials

_USER = "app"


class Secret:
    """The secret: versions of a password, as numbers. ``staged`` is the one that is to become ``current``."""

    def __init__(self) -> None:
        self.current = 0
        self.staged = 0


class Source:
    """What an environment knows of the secret. ``db.credentials.source.Source`` says what each call promises."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._cached = secret.current

    def current(self) -> Credentials:
        return _credentials(self._cached)

    def refresh(self, _rejected: Credentials) -> Credentials:
        self._cached = self._secret.current
        return self.current()

    def staged(self) -> Credentials | None:
        return _credentials(self._secret.staged)

    def forget(self) -> None:
        self._cached = self._secret.current

    def part(self) -> None:
        """No process is forked here."""


def _credentials(password: int) -> Credentials:
    return Credentials(username=_USER, password=str(password), fetched_at=0.0)
