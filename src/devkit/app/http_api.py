"""What API Gateway does between a caller and a function, for the HTTP API of a template: routes, events, answers.

Knows no server and no process. The event is the payload format 2.0, which an HTTP API sends unless it is told
otherwise: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html.
REST APIs (``Type: Api``) send another one, and are not served.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from .intrinsics import reference, section

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .template import Template

IMPLICIT_API = "ServerlessHttpApi"  # SAM's name for the one of events without ApiId
DEFAULT = "$default"
CLAIMS = "x-claims"


@dataclass(frozen=True)
class Route:
    """``method`` and ``path`` as the template writes them (``ANY``, ``{id}``, ``{proxy+}``), and who answers.

    ``authorized``: callers need a token, of which the function is told the claims.
    """

    method: str
    path: str
    function: str
    authorized: bool

    @property
    def key(self) -> str:
        """As the event calls it."""
        return DEFAULT if self.path == DEFAULT else f"{self.method} {self.path}"

    def parameters(self, path: str) -> dict[str, str] | None:
        """What ``path`` has in the place of the names in braces; None where it is another route's."""
        wanted, there = _parts(self.path), _parts(path)
        if self.path == DEFAULT:
            return {}
        if wanted and wanted[-1].endswith("+}"):
            if len(there) < len(wanted):
                return None
            there = [*there[: len(wanted) - 1], "/".join(there[len(wanted) - 1 :])]
        if len(wanted) != len(there):
            return None
        pairs = list(zip(wanted, there, strict=True))
        if any(name != value for name, value in pairs if not name.startswith("{")):
            return None
        return {name.strip("{+}"): unquote(value) for name, value in pairs if name.startswith("{")}

    def precedence(self) -> tuple[bool, bool, int, bool]:
        """The lowest is asked first: as API Gateway does, a full match, then one with {proxy+}, then $default."""
        names = [part for part in _parts(self.path) if part.startswith("{")]
        return self.path == DEFAULT, self.path.endswith("+}"), len(names), self.method == "ANY"


@dataclass(frozen=True)
class Request:
    """What a caller sends. ``target`` is the path with its query as it came, ``headers`` may repeat a name."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    source_ip: str

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def joined_headers(self) -> dict[str, str]:
        """By name in lower case, the values of one name joined by commas; without cookies."""
        return _joined((name.lower(), value) for name, value in self.headers if name.lower() != "cookie")

    def cookies(self) -> list[str]:
        return [part.strip() for name, value in self.headers if name.lower() == "cookie" for part in value.split(";")]


@dataclass(frozen=True)
class Response:
    """What the caller gets."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class ClaimsError(ValueError):
    """The header that stands for a token's claims cannot be read."""


def routes(template: Template) -> list[Route]:
    """The routes of every HTTP API, in the order in which they are to be asked."""
    return sorted(_routes(template), key=Route.precedence)


def not_served(template: Template) -> list[str]:
    """The functions that have a route of a REST API, which is another protocol."""
    return sorted({name for name, event in _events(template) if event.get("Type") == "Api"})


def find(routes: Iterable[Route], request: Request) -> tuple[Route, dict[str, str]] | None:
    """The route that takes ``request``, and the parameters in its path."""
    for route in routes:
        if route.method in {request.method, "ANY"} and (found := route.parameters(request.path)) is not None:
            return route, found
    return None


def claims_of(request: Request) -> dict[str, str] | None:
    """The claims in the header: a JSON object, or ``name=value, …``; None without it. Raises ClaimsError."""
    text = request.joined_headers().get(CLAIMS)
    if text is None:
        return None
    if text.lstrip().startswith("{"):
        try:
            # API Gateway hands every claim on as text.
            return {
                name: value if isinstance(value, str) else json.dumps(value) for name, value in json.loads(text).items()
            }
        except ValueError as error:
            raise ClaimsError(f"{CLAIMS} is no JSON: {error}") from error
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise ClaimsError(f"{CLAIMS} is neither a JSON object nor name=value, …: {text}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def event(route: Route, request: Request, parameters: Mapping[str, str], claims: Mapping[str, str] | None) -> Any:
    """The payload of the function behind ``route``."""
    headers = request.joined_headers()
    query = request.target.partition("?")[2]
    text = _text_or_none(request.body)
    now = time.time()
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": request.path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "local",
            "domainName": headers.get("host", "localhost"),
            "domainPrefix": "local",
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.source_ip,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": route.key,
            "stage": DEFAULT,
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(now * 1000),
        },
        "isBase64Encoded": text is None,
    }
    if cookies := request.cookies():
        made["cookies"] = cookies
    if given := parse_qsl(query, keep_blank_values=True):
        made["queryStringParameters"] = _joined(given)
    if parameters:
        made["pathParameters"] = dict(parameters)
    if route.authorized and claims is not None:
        made["requestContext"]["authorizer"] = {"jwt": {"claims": dict(claims), "scopes": None}}
    if request.body:
        made["body"] = base64.b64encode(request.body).decode() if text is None else text
    return made


def response(answer: Any) -> Response:
    """A function's answer as the caller gets it: an object with ``statusCode`` says all, anything else is a body."""
    if not (isinstance(answer, dict) and "statusCode" in answer):
        return message(HTTPStatus.OK, answer)
    body = answer.get("body") or ""
    if not isinstance(body, str):
        body = json.dumps(body)
    headers = {str(name): str(value) for name, value in (answer.get("headers") or {}).items()}
    if not any(name.lower() == "content-type" for name in headers):
        headers["content-type"] = "text/plain;charset=UTF-8"
    cookies = [("set-cookie", cookie) for cookie in answer.get("cookies") or ()]
    content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
    return Response(int(answer["statusCode"]), (*headers.items(), *cookies), content)


def message(status: HTTPStatus, content: Any = None) -> Response:
    """``content`` as JSON, or what API Gateway says for ``status`` by itself."""
    body = {"message": status.phrase} if content is None else content
    return Response(status, (("content-type", "application/json"),), json.dumps(body).encode())


def _events(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, function in template.resources.items():
        for event in section(section(function, "Properties"), "Events").values():
            yield name, event


def _routes(template: Template) -> Iterator[Route]:
    for function, event in _events(template):
        if event.get("Type") != "HttpApi":
            continue
        said = section(event, "Properties")
        own = section(said, "Auth").get("Authorizer")
        api = reference(said.get("ApiId", IMPLICIT_API))
        chosen = own or _default_authorizer(template, api)
        yield Route(
            method=str(said.get("Method", "ANY")).upper(),
            path=said.get("Path", DEFAULT),
            function=function,
            authorized=chosen not in {None, "NONE"},
        )


def _default_authorizer(template: Template, api: str) -> str | None:
    """SAM lays an API's own properties over those of Globals."""
    shared = section(section(section(template.content, "Globals"), "HttpApi"), "Auth")
    own = section(section(template.resources.get(api, {}), "Properties"), "Auth")
    authorizer: str | None = {**shared, **own}.get("DefaultAuthorizer")
    return authorizer


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _text_or_none(body: bytes) -> str | None:
    """None for what is no text, which the event holds in Base64."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
