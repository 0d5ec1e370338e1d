"""``make serve``: the HTTP routes of an application on localhost, in the real Lambda runtime.

``sam local start-api`` does the same in Docker, but skips the authorizers of an HTTP API, so that a function is never
told who calls. Here a header gives the claims (``http_api.CLAIMS``). A function whose code has changed starts anew at
its next request. Besides, each function takes any event at the address of Lambda's own Invoke.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from devkit.lambda_runtime.environment import TIMEOUT_ERROR, LambdaEnvironment

from . import http_api
from .errors import ProjectError
from .expectations import failure
from .http_api import Request, Response, message
from .stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Self

    from devkit.lambda_runtime.environment import Invocation

    from .project import Project
    from .template import Function

HOST = "127.0.0.1"
PORT = 3000  # that of `sam local start-api`
# https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
INVOKE = re.compile(r"/2015-03-31/functions/([\w-]+)/invocations")


def run(project: Project, *, port: int = PORT) -> int:
    """Serve until interrupted; 1 where what CloudFormation would call at a deploy fails."""
    with Stack(project) as stack, contextlib.ExitStack() as running:
        functions = {
            name: running.enter_context(ReloadedFunction(function, stack.variables(function)))
            for name, function in stack.functions().items()
        }
        for name in project.template.called_at_deploy() & functions.keys():
            if problem := _deploy(stack, name, functions[name]):
                print(f"{name}: {problem}", file=sys.stderr)
                return 1
        with Front(project, functions, port=port) as front:
            _print_routes(project, front)
            with contextlib.suppress(KeyboardInterrupt):
                front.serve_forever()
    return 0


class ReloadedFunction:
    """A function in an execution environment of its own, which is a new one when a file of its code has changed."""

    def __init__(self, function: Function, variables: Mapping[str, str]) -> None:
        self._function, self._variables = function, variables
        self._one_at_a_time = threading.Lock()
        self._environment: LambdaEnvironment | None = None
        self._seen: Mapping[Path, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._environment is not None:
            self._environment.shutdown()

    def invoke(self, payload: object) -> Invocation:
        """As ``LambdaEnvironment.invoke``; what the function prints goes to this process's stderr."""
        with self._one_at_a_time:
            invocation = self._current().invoke(payload)
        for line in invocation.logs:
            print(line, file=sys.stderr)
        return invocation

    def _current(self) -> LambdaEnvironment:
        files = self._files()
        if self._environment is None or files != self._seen:
            if self._environment is not None:
                print(f"{self._function.name}: its code has changed, and it starts anew", file=sys.stderr)
                self._environment.shutdown()
            self._seen = files
            self._environment = LambdaEnvironment(
                handler=self._function.handler,
                code=[self._function.code, *self._function.layers],
                environment=self._variables,
                timeout_s=self._function.timeout_s,
                memory_mb=self._function.memory_mb,
                name=self._function.name,
                runtime=self._function.runtime,
            )
            self._environment.start()
        return self._environment

    def _files(self) -> dict[Path, int]:
        found: dict[Path, int] = {}
        for folder in (self._function.code, *self._function.layers):
            for path in folder.rglob("*.py"):
                with contextlib.suppress(FileNotFoundError):  # an editor may be at it
                    found[path] = path.stat().st_mtime_ns
        return found


class Front(ThreadingHTTPServer):
    """The server. It answers what API Gateway would, and Invoke. Raises ProjectError where its port is taken."""

    daemon_threads = True

    def __init__(self, project: Project, functions: Mapping[str, ReloadedFunction], *, port: int) -> None:
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:  # which is a number that no port has
            said = getattr(error, "strerror", None) or error
            raise ProjectError(f"{HOST}:{port}: {said}; --port (PORT= of make) names another one") from error
        self.routes = [route for route in http_api.routes(project.template) if route.function in functions]
        self._functions = functions

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.server_port}"

    def answer(self, request: Request) -> Response:
        """What comes back."""
        if called := INVOKE.fullmatch(request.path):
            return self._invoke(called[1], request)
        found = http_api.find(self.routes, request)
        if found is None:
            return message(HTTPStatus.NOT_FOUND)
        try:
            claims = http_api.claims_of(request)
        except http_api.ClaimsError as error:
            return message(HTTPStatus.BAD_REQUEST, {"message": str(error)})
        route, parameters = found
        if route.authorized and claims is None:
            return message(HTTPStatus.UNAUTHORIZED)
        return self._call(route.function, http_api.event(route, request, parameters, claims))

    def _call(self, function: str, event: object) -> Response:
        invocation = self._functions[function].invoke(event)
        if invocation.error is None:
            return http_api.response(invocation.payload)
        print(failure(invocation.payload), file=sys.stderr)
        timed_out = invocation.error == TIMEOUT_ERROR
        return message(HTTPStatus.SERVICE_UNAVAILABLE if timed_out else HTTPStatus.INTERNAL_SERVER_ERROR)

    def _invoke(self, name: str, request: Request) -> Response:
        if name not in self._functions:
            return message(HTTPStatus.NOT_FOUND, {"message": f"there is no function {name}"})
        try:
            payload = json.loads(request.body or b"{}")
        except ValueError as error:
            return message(HTTPStatus.BAD_REQUEST, {"message": f"the payload is no JSON: {error}"})
        invocation = self._functions[name].invoke(payload)
        answer = message(HTTPStatus.OK, invocation.payload)
        failed = (("x-amz-function-error", "Unhandled"),) if invocation.error else ()
        return Response(answer.status, (*answer.headers, *failed), answer.body)


class _Handler(BaseHTTPRequestHandler):
    server: Front
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        response = self.server.answer(
            Request(self.command, self.path, tuple(self.headers.items()), body, self.client_address[0])
        )
        self.send_response(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def log_message(self, *_: object) -> None:
        """Leave the terminal to what the functions print."""


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler.answer)  # as http.server looks for it


def _deploy(stack: Stack, name: str, function: ReloadedFunction) -> str | None:
    """Call ``name`` as CloudFormation does for each custom resource behind it. What went wrong, or None."""
    for event in stack.create_events(name):
        failed = failure(function.invoke(event).payload)
        if problem := failed or stack.refusal():
            return problem
    return None


def _print_routes(project: Project, front: Front) -> None:
    print(f"{front.url} answers, until Ctrl-C:\n")
    for route in front.routes:
        claims = f'   {http_api.CLAIMS}: {{"…": "…"}}' if route.authorized else ""
        print(f"  {route.method:<7} {route.path:<32} {route.function}{claims}")
    for name in http_api.not_served(project.template):
        print(f"  {name} has a route of a REST API, which is not served here")
    print(f"\nEvery function takes any event as Lambda's Invoke does: aws lambda invoke --endpoint-url {front.url} …")
    sys.stdout.flush()
