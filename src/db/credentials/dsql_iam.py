"""Credentials for Aurora DSQL, which takes tokens and no passwords.

The token is what ``boto3.client("dsql").generate_db_connect_auth_token`` makes, without the service client and its
model. It names the right and not the user: which roles of the database a role of AWS may take is for ``AWS IAM GRANT``.
https://docs.aws.amazon.com/aurora-dsql/latest/userguide/authentication-authorization.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.settings.engines.dsql import ADMIN, DATABASE, region_of

from .tokens import TOKEN_LIFE_S, TokenSource

if TYPE_CHECKING:
    from .sigv4 import Signer
    from .tokens import Identity


class DsqlSource(TokenSource):
    """Tokens for ``DB_USER`` at a cluster; ``admin`` needs dsql:DbConnectAdmin, all others dsql:DbConnect."""

    service = "dsql"

    def presigned(self, signer: Signer) -> str:
        action = "DbConnectAdmin" if self._settings.user == ADMIN else "DbConnect"
        return signer.presigned(host=self._host, query={"Action": action}, expires_s=TOKEN_LIFE_S)

    def region(self, identity: Identity) -> str | None:  # noqa: ARG002 - the function may be in another one
        return region_of(self._host)

    @property
    def database(self) -> str:
        return DATABASE
