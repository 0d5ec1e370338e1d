"""AWS on localhost: moto's server, for the one service that the product asks, Secrets Manager.

Owns the HTTP server, the secrets in it, and the record of what was asked. moto keeps its secrets in one place for the
whole process: all servers of a process share them, and ``moto.mock_aws`` empties it.

moto and Flask take most of a second to import: import this module where it is used.
"""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from typing import TYPE_CHECKING, Any

from devkit.extras import require

require("aws")  # before the first import that would fail without a word about the extra

from moto.moto_server.werkzeug_app import (  # noqa: E402 - see above
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import BaseWSGIServer, make_server  # noqa: E402 - see above

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self
    from wsgiref.types import StartResponse, WSGIEnvironment

HOST = "127.0.0.1"
REGION = "us-east-1"
ACCESS_KEY_ID = "testing"
POLL_S = 0.02  # the longest that stop() waits; werkzeug's own default is half a second
ANSWER_S = 10.0


class LocalAws:
    """Secrets Manager on 127.0.0.1, for the length of a ``with`` block.

    boto3 finds it through ``environment()``. It accepts any credentials and evaluates no IAM policy.
    """

    def __init__(self) -> None:
        self._calls: list[str] = []
        self._application = DomainDispatcherApplication(create_backend_app)
        self._running: tuple[BaseWSGIServer, threading.Thread] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on a free port."""
        if self._running is not None:
            raise RuntimeError("the server runs already")
        server = make_server(HOST, 0, self._record, threaded=True, request_handler=_QuietHandler)
        thread = threading.Thread(target=server.serve_forever, args=(POLL_S,), name="devkit-aws", daemon=True)
        thread.start()
        self._running = (server, thread)

    def stop(self) -> None:
        """Close the port. The secrets stay until the process ends; on a stopped server it does nothing."""
        if self._running is None:
            return
        (server, thread), self._running = self._running, None
        server.shutdown()
        thread.join()

    @property
    def endpoint(self) -> str:
        """The URL of every service. Raises RuntimeError while the server is stopped."""
        return f"http://{HOST}:{self._port}"

    def environment(self) -> dict[str, str]:
        """What boto3 and the Lambda runtime need to know to come here: endpoint, region and test credentials."""
        return {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_SESSION_TOKEN": "testing",
            # Without it a mistake in the variables above makes boto3 look for an EC2 role, for seconds.
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def calls(self) -> list[str]:
        """The operations received since the server was made, oldest first, those of the methods below included.

        An operation stands here before it is answered.
        """
        return list(self._calls)

    def count(self, operation: str) -> int:
        """How often ``operation``, for example ``GetSecretValue``, was received."""
        return self._calls.count(operation)

    def put_secret(self, name: str, value: Mapping[str, object] | str) -> str:
        """Make ``value`` the AWSCURRENT version of the secret ``name``, which is created if need be.

        What was current becomes AWSPREVIOUS. A mapping is stored as JSON. Returns the version id. Raises RuntimeError
        with the server's reason.
        """
        text = value if isinstance(value, str) else json.dumps(dict(value))
        version = {"SecretString": text, "ClientRequestToken": str(uuid.uuid4())}
        status, answer = self._ask("CreateSecret", {"Name": name, **version})
        if b"ResourceExistsException" in answer:
            status, answer = self._ask("PutSecretValue", {"SecretId": name, **version})
        _check("put", name, status, answer)
        return str(json.loads(answer)["VersionId"])

    def delete_secret(self, name: str) -> None:
        """Remove the secret ``name`` at once, with all its versions. One that is not there is no error."""
        status, answer = self._ask("DeleteSecret", {"SecretId": name, "ForceDeleteWithoutRecovery": True})
        _check("delete", name, status, answer)

    @property
    def _port(self) -> int:
        if self._running is None:
            raise RuntimeError("the server is stopped: use it inside a with block")
        return self._running[0].port

    def _ask(self, operation: str, parameters: Mapping[str, object]) -> tuple[int, bytes]:
        # Not boto3: a developer's AWS_PROFILE or HTTP_PROXY is not to have a say in where test secrets go.
        scope = f"{ACCESS_KEY_ID}/20260101/{REGION}/secretsmanager/aws4_request"
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"secretsmanager.{operation}",
            # moto reads the service and the region here, and checks no signature.
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none",
        }
        connection = http.client.HTTPConnection(HOST, self._port, timeout=ANSWER_S)
        try:
            connection.request("POST", "/", json.dumps(parameters), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _record(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # AWS's JSON protocols name their operation in a header: secretsmanager.GetSecretValue
        target = environ.get("HTTP_X_AMZ_TARGET")
        if target is not None:
            self._calls.append(target.rpartition(".")[2])
        answer: Iterable[bytes] = self._application(environ, start_response)
        return answer


def _check(verb: str, name: str, status: int, answer: bytes) -> None:
    if status != http.client.OK:
        raise RuntimeError(f"could not {verb} the secret {name!r}: HTTP {status}, {answer.decode()}")


class _QuietHandler(MotoRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name is werkzeug's
        """Write no access log."""
