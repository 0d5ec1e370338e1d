"""Credentials from RDS IAM authentication: a presigned request as the password, made here without a network call.

The token is what ``boto3.client("rds").generate_db_auth_token`` makes, signed by botocore alone, without the service
client and its model. https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.errors import CredentialsError

from . import DEFAULT_PORT, Credentials, no_debug_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.settings import Settings

_TOKEN_LIFE_S = 900  # RDS's own: checked when connecting, not afterwards
_MARGIN_S = 60  # for the connect itself, and for clocks that differ


class RdsIamSource:
    """Tokens for ``DB_USER`` at ``host``, kept for their life less a minute.

    A token is good for the one endpoint that it names, so writer and reader have a source each.
    """

    def __init__(self, settings: Settings, host: str, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._host = host
        self._clock = clock
        self._cached: Credentials | None = None

    def current(self) -> Credentials:
        """The cached token while it lives; then a new one."""
        cached = self._cached
        if cached is not None and 0 <= self._clock() - cached.fetched_at < _TOKEN_LIFE_S - _MARGIN_S:
            return cached
        return self._sign()

    def refresh(self, rejected: Credentials) -> Credentials:  # noqa: ARG002 - the protocol's; a token is signed afresh
        """A token signed now, with the role's credentials as they are now."""
        return self._sign()

    def _sign(self) -> Credentials:
        from botocore.auth import SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.session import Session

        settings = self._settings
        session = Session()
        identity, region = session.get_credentials(), session.get_config_variable("region")
        if identity is None or not region:
            missing = "AWS credentials" if identity is None else "AWS region"
            raise CredentialsError(f"DB_AUTH=iam: this process has no {missing} to sign a token with")
        port = settings.port or DEFAULT_PORT
        request = AWSRequest(
            method="GET",
            url=f"https://{self._host}:{port}/",
            params={"Action": "connect", "DBUser": settings.user},
        )
        with no_debug_lines():
            SigV4QueryAuth(identity.get_frozen_credentials(), "rds-db", region, expires=_TOKEN_LIFE_S).add_auth(request)
        self._cached = Credentials(
            username=str(settings.user),
            password=str(request.url).removeprefix("https://"),
            host=self._host,
            port=port,
            database=settings.name,
            fetched_at=self._clock(),
        )
        return self._cached
