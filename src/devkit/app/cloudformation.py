"""CloudFormation beside a custom resource: what it asks, and its ear for how it went."""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from .intrinsics import PSEUDO_PARAMETERS, section

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self


def create_event(name: str, resource: Mapping[str, Any], *, url: str) -> dict[str, Any]:
    """What the function behind the custom resource ``name`` is sent at the first deploy; it is to answer at ``url``."""
    # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/crpg-ref-requesttypes-create.html
    return {
        "RequestType": "Create",
        "ResponseURL": url,
        "StackId": PSEUDO_PARAMETERS["AWS::StackId"],
        "RequestId": str(uuid.uuid4()),
        "LogicalResourceId": name,
        "ResourceType": resource["Type"],
        "ResourceProperties": {
            key: value for key, value in section(resource, "Properties").items() if isinstance(value, str)
        },
    }


class Callbacks:
    """An HTTP server that takes CloudFormation's place behind a ResponseURL."""

    def __init__(self) -> None:
        self._received: list[Any] = []

    def __enter__(self) -> Self:
        received = self._received

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep the terminal to the table."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/callback"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self) -> list[Any]:
        """What came since the last call."""
        taken, self._received[:] = list(self._received), []
        return taken
