"""AWS Signature Version 4, as much of it as one request and one token need, on the standard library alone.

botocore signs the same in 0.4 s of imports, half a cold start; here it is three hashes.
tests/postgres/test_get_secret.py holds every signature against botocore's. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The role's keys. The two secret ones never print."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Keys | None:
        """The keys that Lambda puts into the environment of a function; None where it hands them out otherwise."""
        access_key_id, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        # A profile is somebody's choice of other keys, and botocore's to read.
        if not access_key_id or not secret or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE"):
            return None
        token = environ.get("AWS_SESSION_TOKEN") or None
        return cls(access_key_id=access_key_id, secret_access_key=secret, session_token=token)


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Signs for one service of one region with ``keys``, at the wall-clock second ``now``."""

    keys: Keys
    service: str
    region: str
    now: float

    def headers(self, *, host: str, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """``headers`` of a POST completed by those that sign it."""
        signed = {**headers, "Host": host, "X-Amz-Date": self._stamp}
        if self.keys.session_token:
            signed["X-Amz-Security-Token"] = self.keys.session_token
        canonical = {name.lower(): value.strip() for name, value in sorted(signed.items(), key=_lower)}
        names = ";".join(canonical)
        lines = "".join(f"{name}:{value}\n" for name, value in canonical.items())
        digest = hashlib.sha256(body).hexdigest()
        signature = self._signature("\n".join(("POST", path, "", lines, names, digest)))
        credential = f"Credential={self.keys.access_key_id}/{self._scope}"
        return {**signed, "Authorization": f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"}

    def presigned(self, *, host: str, query: Mapping[str, str], expires_s: int) -> str:
        """``host`` and a query that are good as a GET of ``/`` for ``expires_s``: without a scheme, as RDS takes it."""
        wanted = {
            **query,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.keys.access_key_id}/{self._scope}",
            "X-Amz-Date": self._stamp,
            "X-Amz-Expires": str(expires_s),
            "X-Amz-SignedHeaders": "host",
        }
        if self.keys.session_token:
            wanted["X-Amz-Security-Token"] = self.keys.session_token
        pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(wanted.items()))
        digest = hashlib.sha256(b"").hexdigest()
        signature = self._signature("\n".join(("GET", "/", pairs, f"host:{host}\n", "host", digest)))
        return f"{host}/?{pairs}&X-Amz-Signature={signature}"

    @property
    def _stamp(self) -> str:
        return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.now))

    @property
    def _scope(self) -> str:
        return f"{self._stamp[:8]}/{self.region}/{self.service}/aws4_request"

    def _signature(self, canonical_request: str) -> str:
        digest = hashlib.sha256(canonical_request.encode()).hexdigest()
        key = f"AWS4{self.keys.secret_access_key}".encode()
        for part in self._scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = "\n".join((_ALGORITHM, self._stamp, self._scope, digest))
        return hmac.digest(key, text.encode(), "sha256").hex()


def _lower(item: tuple[str, str]) -> str:
    return item[0].lower()
