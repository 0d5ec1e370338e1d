"""The one request to Secrets Manager, GetSecretValue, and the three ways to send it.

- Through the AWS Parameters and Secrets Lambda Extension, where its layer is attached (``ask_extension``).
- Signed here, over ``http.client`` (``ask_directly``): 15 ms of CPU where boto3 and its client take half a second. Only
  inside the Lambda runtime, and only where nothing in the environment is for botocore alone to understand.
- Through boto3 (``ask_boto3``), everywhere else: on a laptop with its profiles, behind a proxy, in unit tests under
  ``moto.mock_aws``, which replaces botocore's transport and would not see another.

Each returns an ``Answer`` and raises ``Refused`` or ``Unreachable``. None is asked before a handler needs the secret.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import random
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from db.errors import ConfigurationError
from db.settings.places import port_problem

from .sigv4 import Keys, Signer
from .source import looks_for_keys, takes_boto3

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Stage = Literal["AWSCURRENT", "AWSPENDING"]

# Short enough that a function outside its VPC endpoint's reach says so within an API's timeout of ten seconds.
_CONNECT_TIMEOUT_S = 2
_READ_TIMEOUT_S = 3
_ATTEMPTS = 2
_PAUSE_S = 0.1  # between the two, at most

EXTENSION_FILE = Path("/opt/extensions/AWSParametersAndSecretsLambdaExtension")
_EXTENSION_PORT = "PARAMETERS_SECRETS_EXTENSION_HTTP_PORT"
_EXTENSION_DEFAULT_PORT = 2773
_NOT_READY = b"not ready to serve traffic"
# It is ready when Init has ended, a moment before or after the first invocation starts.
_NOT_READY_FOR_S = 1.0
_NOT_READY_PAUSE_S = 0.02

# What changes where or how botocore would ask; then it is asked to.
_FOR_BOTOCORE = (
    *("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "AWS_CONFIG_FILE"),
)
# Regions of the partitions aws, aws-us-gov and aws-cn; the others have domains of their own.
_REGION = re.compile(r"(?:(?P<china>cn)|us-gov|[a-z]{2})-[a-z]+-\d+")

# What boto3 tries again, in its standard mode: https://docs.aws.amazon.com/boto3/latest/guide/retries.html
_TRANSIENT_STATUSES = {429, 500, 502, 503, 504}
_TRANSIENT = {
    *("InternalFailure", "InternalServiceError", "InternalServiceErrorException", "InternalError"),
    *("ServiceUnavailable", "ServiceUnavailableException", "PriorRequestNotComplete"),
    *("RequestTimeout", "RequestTimeoutException", "RequestThrottled", "RequestThrottledException", "SlowDown"),
    *("Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "EC2ThrottledException"),
    *("RequestLimitExceeded", "BandwidthLimitExceeded", "LimitExceededException", "TransactionInProgressException"),
    "ProvisionedThroughputExceededException",
}


@dataclass(frozen=True)
class Answer:
    """A version of a secret."""

    text: str | None = field(repr=False)
    version: str | None


class Refused(Exception):  # noqa: N818 - an answer, named as what it is
    """Secrets Manager, or what stands before it, answered with the error ``code`` and the HTTP ``status``."""

    def __init__(self, code: str, status: int | None = None) -> None:
        self.code = code
        self._status = status
        super().__init__(code)

    @property
    def transient(self) -> bool:
        """Whether the same request may be answered a little later."""
        return self.code in _TRANSIENT or self._status in _TRANSIENT_STATUSES


class Unreachable(Exception):  # noqa: N818 - likewise
    """No answer came."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and as whom Secrets Manager is asked without botocore."""

    url: str
    region: str
    keys: Keys

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Place | None:
        """Outside the Lambda runtime, or where the environment holds what botocore alone understands, None."""
        region = environ.get("AWS_DEFAULT_REGION") or environ.get("AWS_REGION") or ""
        keys, known = Keys.from_env(environ), _REGION.fullmatch(region)
        if not environ.get("AWS_LAMBDA_RUNTIME_API") or keys is None or known is None:
            return None
        if any(environ.get(name) for name in _FOR_BOTOCORE):
            return None
        domain = "amazonaws.com.cn" if known["china"] else "amazonaws.com"
        url = _configured_endpoint(environ) or f"https://secretsmanager.{region}.{domain}"
        return cls(url=url, region=region, keys=keys)


_ENDPOINTS = ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL")


def _configured_endpoint(environ: Mapping[str, str]) -> str | None:
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return next((environ[name] for name in _ENDPOINTS if environ.get(name)), None)


def require_endpoint(environ: Mapping[str, str]) -> None:
    """Raise ConfigurationError where ``environ`` names an endpoint that nothing can be sent to."""
    to = _configured_endpoint(environ)
    if to is None:
        return
    try:
        url = urlsplit(to)
        usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:  # a port beyond the last
        usable = False
    if not usable:
        name = next(name for name in _ENDPOINTS if environ.get(name))
        raise ConfigurationError([f"{name} is no URL that begins with http:// or https:// and names a host: {to!r}"])


def extension_port(environ: Mapping[str, str], *, installed: Path = EXTENSION_FILE) -> int | None:
    """The port of the Parameters and Secrets extension; None where it is not there.

    It is there where its file is, which Lambda starts whether or not the function is told. The variable that sets the
    port counts as well, for images that carry the extension elsewhere.
    """
    if port := environ.get(_EXTENSION_PORT, ""):
        if problem := port_problem(port):
            raise ConfigurationError([f"{_EXTENSION_PORT} {problem}"])
        return int(port)
    return _EXTENSION_DEFAULT_PORT if installed.exists() else None


def ask_extension(port: int, secret_id: str, *, token: str) -> Answer:
    """The current version, as the extension has it: its copy may be up to 300 s old.

    During Init it answers that it is not ready, and is asked again for a second. Whatever else it refuses is
    Unreachable here: Secrets Manager itself says better why.
    """
    url = f"http://localhost:{port}/secretsmanager/get?secretId={quote(secret_id, safe='')}"
    give_up_at = time.monotonic() + _NOT_READY_FOR_S
    while True:
        status, body = _send("GET", url, {"X-Aws-Parameters-Secrets-Token": token})
        if status == http.client.OK:
            return _answer(body)
        if _NOT_READY not in body or time.monotonic() > give_up_at:
            raise Unreachable(f"the Parameters and Secrets extension answered with status {status}")
        time.sleep(_NOT_READY_PAUSE_S)


def ask_directly(place: Place, secret_id: str, stage: Stage, *, clock: Callable[[], float]) -> Answer:
    """The version of ``stage``, over a connection that closes again."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _ask_once(place, secret_id, stage, clock())
        except Unreachable:
            if attempt == _ATTEMPTS:
                raise
        except Refused as error:
            if attempt == _ATTEMPTS or not error.transient:
                raise
        time.sleep(_PAUSE_S * random.random())  # noqa: S311 - jitter
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def _ask_once(place: Place, secret_id: str, stage: Stage, now: float) -> Answer:
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue"}
    body = json.dumps({"SecretId": secret_id, "VersionStage": stage}).encode()
    signer = Signer(keys=place.keys, service="secretsmanager", region=place.region, now=now)
    url = urlsplit(place.url)
    signed = signer.headers(host=url.netloc, path=url.path or "/", headers=headers, body=body)
    status, answer = _send("POST", place.url, signed, body)
    if status == http.client.OK:
        return _answer(answer)
    raise Refused(_error_code(answer, status), status)


def _send(method: str, to: str, headers: Mapping[str, str], body: bytes | None = None) -> tuple[int, bytes]:
    """The status and the body of the answer. Raises Unreachable."""
    url = urlsplit(to)
    connects = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = connects(url.hostname or "", url.port, timeout=_CONNECT_TIMEOUT_S)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        with contextlib.closing(connection):
            connection.connect()
            connection.sock.settimeout(_READ_TIMEOUT_S)
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error


def _answer(body: bytes) -> Answer:
    found = _json_object(body)
    if found is None:
        raise Unreachable("the answer is not JSON")
    binary = found.get("SecretBinary")  # as JSON holds it
    return Answer(found.get("SecretString") or _decoded(binary and base64.b64decode(binary)), found.get("VersionId"))


def _decoded(binary: bytes | None) -> str | None:
    """The text of a secret that was stored as bytes, by ``--secret-binary`` for one; None where it is no text."""
    try:
        return binary.decode() if binary else None
    except ValueError:
        return None


def _error_code(body: bytes, status: int) -> str:
    # "com.amazonaws.secretsmanager#ResourceNotFoundException", or without what is before the #
    code = str((_json_object(body) or {}).get("__type", "")).rpartition("#")[2]
    return code or f"HTTP {status}"


def _json_object(body: bytes) -> dict[str, Any] | None:
    # Returns, so that the caller raises outside the `except`: a chained JSONDecodeError would hold the whole text.
    try:
        content = json.loads(body)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def ask_boto3(client: Any, secret_id: str, stage: Stage) -> Answer:
    """The version of ``stage``, through a client of ``boto3_client``."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as BotoConnectionError

    try:
        found = client.get_secret_value(SecretId=secret_id, VersionStage=stage)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        raise Refused(error.response.get("Error", {}).get("Code", "unknown"), status) from error
    except (BotoConnectionError, HTTPClientError) as error:
        raise Unreachable(type(error).__name__) from error
    except BotoCoreError as error:
        raise Refused(f"{type(error).__name__}: {error}") from error
    return Answer(found.get("SecretString") or _decoded(found.get("SecretBinary")), found.get("VersionId"))


def boto3_client() -> Any:
    """A client that gives up as early as ``ask_directly`` does."""
    with takes_boto3():
        import boto3
        from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
    )
    with looks_for_keys():
        return boto3.client("secretsmanager", config=config)
