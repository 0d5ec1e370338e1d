"""Credentials from Secrets Manager, cached by wall clock.

Reads both shapes of a secret: the rotation templates' JSON (engine, host, port, username, password, dbname) and the one
that RDS manages itself, which holds no more than username and password.
https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from db.errors import CredentialsError

from . import Credentials, no_debug_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_secretsmanager import SecretsManagerClient

# Short enough that a function outside its VPC endpoint's reach says so within an API's timeout of ten seconds.
_CONNECT_TIMEOUT_S = 2
_READ_TIMEOUT_S = 3
_ATTEMPTS = 2

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
_TRANSIENT = {"InternalServiceError", "InternalServiceErrorException", "ThrottlingException", "ServiceUnavailable"}


class SecretsManagerSource:
    """Credentials held by the secret ``secret_id``; asks AWS again when its copy is older than ``ttl_s``."""

    def __init__(
        self, secret_id: str, *, ttl_s: float, clock: Callable[[], float], username: str | None = None
    ) -> None:
        self.secret_id = secret_id
        self._username = username  # instead of the secret's
        self._ttl_s = ttl_s
        self._clock = clock
        self._client: SecretsManagerClient | None = None
        self._cached: Credentials | None = None

    def current(self) -> Credentials:
        """The cached secret, fetched again past its TTL. The old copy serves while Secrets Manager is out of reach."""
        cached = self._cached
        # A clock that steps back makes the copy look young, so it serves until a refusal: harmless.
        if cached is not None and self._clock() - cached.fetched_at < self._ttl_s:
            return cached
        try:
            return self._fetch()
        except CredentialsError as error:
            if cached is None or not error.transient:
                raise
            return cached

    def refresh(self, rejected: Credentials) -> Credentials:  # noqa: ARG002 - the protocol's; a secret is fetched whole
        """The secret as Secrets Manager has it now."""
        return self._fetch()

    def _fetch(self) -> Credentials:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            with no_debug_lines():
                answer = self._open_client().get_secret_value(SecretId=self.secret_id)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            remedy = _REMEDIES.get(code, "Secrets Manager refused")
            message = f"secret {self.secret_id!r}: {remedy} ({code})"
            raise CredentialsError(message, transient=code in _TRANSIENT) from error
        except BotoCoreError as error:
            raise self._unreachable(error) from error
        self._cached = parse_secret(
            self.secret_id,
            answer.get("SecretString"),
            version=answer.get("VersionId"),
            fetched_at=self._clock(),
            username=self._username,
        )
        return self._cached

    def _unreachable(self, error: Exception) -> CredentialsError:
        from botocore.exceptions import ConnectionError as BotoConnectionError
        from botocore.exceptions import HTTPClientError

        if isinstance(error, (BotoConnectionError, HTTPClientError)):
            return CredentialsError(
                f"secret {self.secret_id!r}: Secrets Manager cannot be reached ({type(error).__name__}); a function in "
                "a VPC needs an interface endpoint for it, or a NAT gateway",
                transient=True,
            )
        return CredentialsError(f"secret {self.secret_id!r}: {error} ({type(error).__name__})")

    def _open_client(self) -> SecretsManagerClient:
        if self._client is None:
            # boto3 costs some 0.3 s to import: only who needs a secret, and only once.
            import boto3
            from botocore.config import Config

            config = Config(
                connect_timeout=_CONNECT_TIMEOUT_S,
                read_timeout=_READ_TIMEOUT_S,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            )
            self._client = boto3.client("secretsmanager", config=config)
        return self._client


def parse_secret(
    secret_id: str, text: str | None, *, version: str | None, fetched_at: float, username: str | None = None
) -> Credentials:
    """Credentials from a secret's text; ``username`` stands in for the secret's.

    Raises CredentialsError that names the secret and the key, never a value.
    """
    content = _json_object(text)
    if content is None:
        raise CredentialsError(f"secret {secret_id!r}: its value is not a JSON object of username and password")
    engine = content.get("engine")
    if engine is not None and "postgres" not in str(engine):
        raise CredentialsError(f"secret {secret_id!r}: key 'engine' names a database other than PostgreSQL")
    port = content.get("port")
    if port is not None and not str(port).isdecimal():
        raise CredentialsError(f"secret {secret_id!r}: key 'port' is not a number")
    return Credentials(
        username=username or _required(content, "username", secret_id),
        password=_required(content, "password", secret_id),
        host=_optional(content, "host", secret_id),
        port=int(port) if port is not None else None,
        database=_optional(content, "dbname", secret_id),
        version=version,
        fetched_at=fetched_at,
    )


def _required(content: Mapping[str, Any], key: str, secret_id: str) -> str:
    value = content.get(key)
    if not isinstance(value, str) or not value:
        raise CredentialsError(f"secret {secret_id!r}: key {key!r} is missing, empty, or not a string")
    return value


def _optional(content: Mapping[str, Any], key: str, secret_id: str) -> str | None:
    return _required(content, key, secret_id) if content.get(key) else None


def _json_object(text: str | None) -> dict[str, Any] | None:
    # Returns, so that the caller raises outside the `except`: a chained JSONDecodeError would hold the whole text.
    try:
        content = json.loads(text or "")
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
