"""Credentials from Secrets Manager, cached by wall clock.

How it is asked: ``get_secret``. What the secret's text says: ``secret_shapes``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from db.errors import CredentialsError
from db.timing.invocation import NONE, current_invocation

from .get_secret import (
    Answer,
    Place,
    Refused,
    Unreachable,
    ask_boto3,
    ask_directly,
    ask_extension,
    boto3_client,
    extension_port,
    require_endpoint,
)
from .secret_shapes import parse_secret
from .source import OneAsker, no_debug_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.settings.engines.kinds import EngineKind

    from .get_secret import Stage
    from .source import Credentials

# Error codes of GetSecretValue, and what to do about each.
# https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
_REMEDIES = {
    "ResourceNotFoundException": "there is no such secret, or no such version of it, in this account and region",
    "AccessDeniedException": "the function's role lacks secretsmanager:GetSecretValue on it, or kms:Decrypt on its key",
    "DecryptionFailure": "its KMS key cannot be used",
    "InvalidRequestException": "it is marked for deletion, or not in a state to be read",
    "UnrecognizedClientException": "the AWS credentials of this process are not valid",
    "ExpiredTokenException": "the AWS credentials of this process have expired",
}

# How long an expired copy serves before Secrets Manager, which could not give a newer one, is asked again: a database
# that is connected to often must not wait each time for what does not answer.
_ASK_AGAIN_S = 60


class SecretsManagerSource:
    """Credentials held by the secret ``secret_id``; asks AWS again when its copy is older than ``ttl_s``.

    The first copy may come from the Parameters and Secrets extension. What replaces a refused one never does, as the
    extension gives what it has for up to 300 s and cannot be told to forget it.
    """

    def __init__(
        self,
        secret_id: str,
        *,
        ttl_s: float,
        clock: Callable[[], float],
        username: str | None = None,
        kind: EngineKind | None = None,
    ) -> None:
        """``kind`` is what the secret is to be for, PostgreSQL by default; ``username`` stands in for its user."""
        self.secret_id = secret_id
        self._kind = kind
        self._username = username  # instead of the secret's
        self._ttl_s = ttl_s
        self._clock = clock
        self._client: Any = None
        self._cached: Credentials | None = None
        self._ask_again_at = 0.0
        self._asker = OneAsker()

    def current(self) -> Credentials:
        """The cached secret, fetched again past its TTL.

        The old copy serves on where a newer one is not to be had, for whatever reason: most likely it still opens the
        door, and where it does not, the refusal leads to ``refresh``, which says what is wrong.
        """
        cached, now = self._cached, self._clock()
        # Both bounded on either side: a clock that was ahead and is set back makes no copy young for hours.
        if cached is not None and (
            0 <= now - cached.fetched_at < self._ttl_s or 0 < self._ask_again_at - now <= _ASK_AGAIN_S
        ):
            return cached
        try:
            return self._asker.ask(lambda: self._keep(self._ask_cheaply()))
        except CredentialsError as error:
            if cached is None:
                raise
            self._ask_again_at = now + _ASK_AGAIN_S
            _warn_of_old_copy(error, age_s=now - cached.fetched_at)
            return cached

    def refresh(self, rejected: Credentials) -> Credentials:  # noqa: ARG002 - the protocol's; a secret is fetched whole
        """The secret as Secrets Manager has it now."""
        return self._keep(self._ask("AWSCURRENT"))

    def staged(self) -> Credentials | None:
        """What a rotation that is under way will make current; None where there is none.

        A rotation sets the password in the database before it moves AWSCURRENT, so in between this is what works. It is
        the last resort: where it cannot be read, a policy for AWSCURRENT alone among the reasons, there is none.
        """
        try:
            return self._keep(self._ask("AWSPENDING"))
        except CredentialsError:
            return None

    def forget(self) -> None:
        """Drop the copy and the client: the next connect asks anew."""
        self._cached = self._client = None

    def part(self) -> None:
        """This is a forked child: whoever asks in the parent is not here."""
        self._asker.part()

    def _keep(self, answer: Answer) -> Credentials:
        self._cached = parse_secret(
            self.secret_id,
            answer.text,
            version=answer.version,
            fetched_at=self._clock(),
            username=self._username,
            kind=self._kind,
        )
        return self._cached

    def _ask_cheaply(self) -> Answer:
        # The extension is not ready before Init has ended: outside an invocation it is not worth the wait.
        now = current_invocation()
        port = None if now is NONE or now.is_init else extension_port(os.environ)
        if port is not None:
            try:
                return ask_extension(port, self.secret_id, token=os.environ.get("AWS_SESSION_TOKEN", ""))
            except Unreachable:
                pass  # Secrets Manager itself gives the secret, or the reason why not
        return self._ask("AWSCURRENT")

    def _ask(self, stage: Stage) -> Answer:
        require_endpoint(os.environ)
        try:
            place = Place.from_env(os.environ)
            if place is not None:
                return ask_directly(place, self.secret_id, stage, clock=self._clock)
            with no_debug_lines():
                return ask_boto3(self._open_client(), self.secret_id, stage)
        except Refused as error:
            remedy = _REMEDIES.get(error.code, "Secrets Manager refused")
            message = f"secret {self.secret_id!r}: {remedy} ({error.code})"
            raise CredentialsError(message, transient=error.transient) from error
        except Unreachable as error:
            raise CredentialsError(
                f"secret {self.secret_id!r}: Secrets Manager cannot be reached ({error}); a function in a VPC needs an "
                "interface endpoint for it, or a NAT gateway",
                transient=True,
            ) from error

    def _open_client(self) -> Any:
        if self._client is None:
            self._client = boto3_client()
        return self._client


def _warn_of_old_copy(error: CredentialsError, *, age_s: float) -> None:
    from aws_lambda_powertools import Logger

    Logger().warning("an old copy of the secret serves", extra={"reason": str(error), "age_s": round(age_s)})
