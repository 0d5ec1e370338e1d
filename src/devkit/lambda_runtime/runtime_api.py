"""Lambda's Runtime API and Extensions API, as far as ``awslambdaric`` and an internal extension ask of them.

For what the Runtime Interface Emulator does not do here: many invocations at a time (Managed Instances) and the
restore after a snapshot (SnapStart). The process that asks belongs to ``managed_and_snapstart``.
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from .emulator import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Answer:
    """What the function answered: ``error`` is the ``errorType`` of Lambda's error document, None after a success."""

    payload: Any
    error: str | None


@dataclass(frozen=True)
class _Reply:
    status: HTTPStatus = HTTPStatus.ACCEPTED
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Event:
    body: bytes
    deadline_ms: int
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    answer: Answer | None = None
    answered: threading.Event = field(default_factory=threading.Event)


_UNKNOWN = _Reply(HTTPStatus.NOT_FOUND)


class RuntimeApi:
    """The API of one execution environment whose runtime has ``workers`` processes, listening from here on."""

    def __init__(self, workers: int = 1) -> None:
        self.extensions: list[str] = []
        """Names of those that are registered, in order."""
        self.init_error: Any = None
        self.ready = threading.Event()
        """Init has ended, well or badly: every worker asks for an event, or one for a restore, or posted an error."""
        self._initialising = workers
        self._lock = threading.Lock()
        self._restored = threading.Event()
        self._events: SimpleQueue[_Event | None] = SimpleQueue()
        self._given: dict[str, _Event] = {}
        self._closed = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="devkit-runtime-api")
        self._thread.start()

    @property
    def address(self) -> str:
        """The value of AWS_LAMBDA_RUNTIME_API."""
        return f"{HOST}:{self._server.server_port}"

    def invoke(self, payload: object, *, timeout_s: float) -> Answer:
        """Have one of the runtime's workers handle ``payload``. Raises TimeoutError without an answer in time."""
        event = _Event(json.dumps(payload).encode(), deadline_ms=int((time.time() + timeout_s) * 1000))
        self._events.put(event)
        if not event.answered.wait(timeout_s) or event.answer is None:
            raise TimeoutError(f"no answer within {timeout_s} s")
        return event.answer

    def restore(self) -> None:
        """Answer the runtime that waits to be restored from its snapshot."""
        self.ready.clear()
        self._restored.set()

    def close(self) -> None:
        """Let go of whoever waits, and stop listening. A second time it does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._restored.set()
        self._events.put(None)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def respond(self, path: str, body: bytes, *, extension: str | None) -> _Reply:
        """The reply to one request, which may name the extension that sends it. Waits where the API does."""
        match path.strip("/").split("/")[1:]:
            case ["runtime", "invocation", "next"]:
                return self._next()
            case ["runtime", "invocation", request_id, "response" | "error" as outcome]:
                return self._answered(request_id, outcome, json.loads(body))
            case ["runtime", "init" | "restore", "error"]:
                self.init_error = json.loads(body)
                self.ready.set()
                return _Reply()
            case ["runtime", "restore", "next"]:
                self.ready.set()
                self._restored.wait()
                return _Reply(HTTPStatus.OK)
            case ["extension", "register"]:
                return self._register(extension)
            case ["extension", "event", "next"]:
                self._closed.wait()
        return _UNKNOWN

    def _next(self) -> _Reply:
        with self._lock:
            self._initialising -= 1
            if self._initialising <= 0:
                self.ready.set()
        event = self._events.get()
        if event is None:  # closed: the next one that waits is to hear of it too
            self._events.put(None)
            return _UNKNOWN
        self._given[event.id] = event
        headers = {
            "Lambda-Runtime-Aws-Request-Id": event.id,
            "Lambda-Runtime-Deadline-Ms": str(event.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:function",
            "Content-Type": "application/json",
        }
        return _Reply(HTTPStatus.OK, event.body, headers)

    def _answered(self, request_id: str, outcome: str, payload: Any) -> _Reply:
        event = self._given.pop(request_id)
        event.answer = Answer(payload, error=payload["errorType"] if outcome == "error" else None)
        event.answered.set()
        return _Reply()

    def _register(self, name: str | None) -> _Reply:
        with self._lock:
            if name is None or name in self.extensions or self.ready.is_set():
                return _Reply(HTTPStatus.FORBIDDEN, b'{"errorType":"Extension.RegistrationClosed"}')
            self.extensions.append(name)
        return _Reply(HTTPStatus.OK, b"{}", {"Lambda-Extension-Identifier": str(uuid.uuid4())})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, api: RuntimeApi) -> None:
        self.api = api
        super().__init__((HOST, 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that ended in the middle of its request is none of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.server.api.respond(self.path, body, extension=self.headers.get("Lambda-Extension-Name"))
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    do_POST = do_GET  # noqa: N815 - the base class's name

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""
