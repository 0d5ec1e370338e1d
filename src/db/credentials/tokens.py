"""Credentials that this process signs itself: a presigned request as the password, made without a network call.

``TokenSource`` keeps a token for as long as it is good; what is signed, and for which service, is its subclass's to
say (``rds_iam``, ``dsql_iam``). Inside Lambda, where the role's keys are in the environment, no botocore is loaded.
"""

from __future__ import annotations

import datetime as dt
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from db.errors import CredentialsError

from .sigv4 import Keys, Signer
from .source import Credentials, OneAsker, looks_for_keys, no_debug_lines, takes_boto3

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.credentials import Credentials as BotocoreCredentials

    from db.settings import Settings

TOKEN_LIFE_S = 900  # as AWS's own tools make them: checked when connecting, not afterwards
_MARGIN_S = 60  # for the connect itself, and for clocks that differ


class Identity(Protocol):
    """Whose keys sign."""

    region: str | None

    def keys(self) -> Keys | None:
        """The keys as they are now; None where there are none."""
        ...

    def outlived(self) -> bool:
        """Whether the keys that ``keys()`` gave last have expired, or are about to: what they signed then has too."""
        ...


class TokenSource(ABC):
    """Tokens for ``DB_USER`` at ``host``, kept for their life less a minute, or for that of the role's keys.

    A token is good for the one endpoint that it names, so writer and reader have a source each.
    """

    service: str  # what the signature is for

    def __init__(self, settings: Settings, host: str, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._host = host
        self._clock = clock
        self._identity: Identity | None = None
        self._cached: Credentials | None = None
        self._asker = OneAsker()

    @abstractmethod
    def presigned(self, signer: Signer) -> str:
        """The token."""

    def region(self, identity: Identity) -> str | None:
        """The region of the endpoint: that of the function, unless it says otherwise."""
        return identity.region

    @property
    def database(self) -> str | None:
        """The database to connect to."""
        return self._settings.name

    @property
    def port(self) -> int:
        """The port of the endpoint."""
        return self._settings.port or self._settings.engine_kind.port

    def current(self) -> Credentials:
        """The cached token while it lives; then a new one."""
        cached, identity = self._cached, self._identity
        if cached is None or identity is None or identity.outlived():
            return self._asker.ask(self._sign)
        if 0 <= self._clock() - cached.fetched_at < TOKEN_LIFE_S - _MARGIN_S:
            return cached
        return self._asker.ask(self._sign)

    def refresh(self, rejected: Credentials) -> Credentials:  # noqa: ARG002 - the protocol's; a token is signed afresh
        """A token signed now, with the role's keys as they are now."""
        return self._sign()

    def staged(self) -> Credentials | None:
        """Nothing: a token is not rotated."""
        return None

    def forget(self) -> None:
        """Drop the token and the keys."""
        self._identity = self._cached = None

    def part(self) -> None:
        """This is a forked child: whoever asks in the parent is not here."""
        self._asker.part()

    def _sign(self) -> Credentials:
        if self._identity is None:
            self._identity = EnvironmentKeys(self._clock) if Keys.from_env(os.environ) else SessionKeys()
        settings, identity = self._settings, self._identity
        keys, region = identity.keys(), self.region(identity)
        if keys is None or not region:
            missing = "AWS credentials" if keys is None else "AWS region"
            raise CredentialsError(f"DB_AUTH={settings.source}: this process has no {missing} to sign a token with")
        now = self._clock()
        self._cached = Credentials(
            username=str(settings.user),
            password=self.presigned(Signer(keys=keys, service=self.service, region=region, now=now)),
            host=self._host,
            port=self.port,
            database=self.database,
            fetched_at=now,
        )
        return self._cached


class EnvironmentKeys:
    """The role's keys in the environment of a Lambda function."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._given: Keys | None = None
        self.region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")

    def keys(self) -> Keys | None:
        self._given = Keys.from_env(os.environ)
        return self._given

    def outlived(self) -> bool:
        """Whether the variables hold other keys by now, or say that these have expired. Lambda's hold no expiry."""
        if Keys.from_env(os.environ) != self._given:
            return True
        expires = os.environ.get("AWS_CREDENTIAL_EXPIRATION")
        return expires is not None and dt.datetime.fromisoformat(expires).timestamp() - self._clock() < _MARGIN_S


class SessionKeys:
    """The keys that botocore finds and refreshes: those of a container's role (SnapStart), of a profile, of SSO."""

    def __init__(self) -> None:
        with takes_boto3():
            from botocore.session import Session

        with looks_for_keys():
            session = Session()
            self.region: str | None = session.get_config_variable("region")
            self._credentials: BotocoreCredentials | None = session.get_credentials()

    def keys(self) -> Keys | None:
        if self._credentials is None:
            return None
        with no_debug_lines(), looks_for_keys():
            frozen = self._credentials.get_frozen_credentials()
        if not frozen.access_key or not frozen.secret_key:
            return None
        return Keys(
            access_key_id=frozen.access_key, secret_access_key=frozen.secret_key, session_token=frozen.token or None
        )

    def outlived(self) -> bool:
        # Only credentials that expire have it.
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        return refresh_needed is not None and bool(refresh_needed(refresh_in=_MARGIN_S))
