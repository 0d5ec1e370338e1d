"""Credentials from RDS IAM authentication.

The token is what ``boto3.client("rds").generate_db_auth_token`` makes, without the service client and its model.
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tokens import TOKEN_LIFE_S, TokenSource

if TYPE_CHECKING:
    from .sigv4 import Signer


class RdsIamSource(TokenSource):
    """Tokens for ``DB_USER`` at an instance, a cluster or a proxy of RDS."""

    service = "rds-db"

    def presigned(self, signer: Signer) -> str:
        return signer.presigned(
            host=f"{self._host}:{self.port}",
            query={"Action": "connect", "DBUser": str(self._settings.user)},
            expires_s=TOKEN_LIFE_S,
        )
