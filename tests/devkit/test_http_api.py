"""What API Gateway makes of a request and of an answer, as its payload format 2.0 has it."""

from __future__ import annotations

import base64
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from devkit.app import http_api
from devkit.app.http_api import ClaimsError, Request, Route
from devkit.app.project import Project
from devkit.app.template import Template

if TYPE_CHECKING:
    from pathlib import Path

ROUTES = [
    Route("GET", "/orders/{id}", "Get", authorized=True),
    Route("GET", "/orders/latest", "Latest", authorized=True),
    Route("ANY", "/orders/{id}", "Any", authorized=True),
    Route("GET", "/files/{proxy+}", "Files", authorized=False),
    Route("ANY", "$default", "Rest", authorized=False),
]


def request(method: str, target: str, *headers: tuple[str, str], body: bytes = b"") -> Request:
    return Request(method, target, headers, body, "203.0.113.17")


def event(target: str, *headers: tuple[str, str], body: bytes = b"", **claims: str) -> Any:
    sent = request("POST", target, *headers, body=body)
    return http_api.event(Route("POST", "/orders", "Create", authorized=True), sent, {}, claims)


@pytest.mark.parametrize(
    ("method", "target", "function", "parameters"),
    [
        ("GET", "/orders/latest", "Latest", {}),
        ("GET", "/orders/17?x=1", "Get", {"id": "17"}),
        ("GET", "/orders/a%20b", "Get", {"id": "a b"}),
        ("PATCH", "/orders/17", "Any", {"id": "17"}),
        ("GET", "/files/a/b/c", "Files", {"proxy": "a/b/c"}),
        ("GET", "/files", "Rest", {}),
        ("PUT", "/elsewhere", "Rest", {}),
    ],
)
def test_the_most_specific_route_answers(method: str, target: str, function: str, parameters: dict[str, str]) -> None:
    """A full match before {proxy+}, that before $default, a method before ANY; names in braces are filled."""
    found = http_api.find(sorted(ROUTES, key=Route.precedence), request(method, target))
    assert found is not None
    assert (found[0].function, found[1]) == (function, parameters)


def test_no_route() -> None:
    """Neither another method nor a longer path is taken for one."""
    route = [Route("GET", "/orders", "List", authorized=False)]
    assert http_api.find(route, request("POST", "/orders")) is None
    assert http_api.find(route, request("GET", "/orders/1")) is None


def test_an_event_has_what_the_example_reads_of_a_real_one() -> None:
    """The same keys as a payload from API Gateway, but for those that a request leaves out."""
    real = json.loads((Project.find().events / "orders" / "create.json").read_text())
    sent = request("POST", "/orders", *real["headers"].items(), body=real["body"].encode())
    made = http_api.event(
        Route("POST", "/orders", "Create", authorized=True),
        sent,
        {},
        real["requestContext"]["authorizer"]["jwt"]["claims"],
    )
    assert made.keys() == real.keys()
    assert made["requestContext"].keys() == real["requestContext"].keys()
    assert made["requestContext"]["authorizer"] == real["requestContext"]["authorizer"]
    assert made["requestContext"]["http"] == real["requestContext"]["http"]
    for key in ("version", "routeKey", "rawPath", "rawQueryString", "headers", "body", "isBase64Encoded"):
        assert made[key] == real[key]


def test_what_repeats_is_joined_and_cookies_stand_apart() -> None:
    """In queries and in headers, whose names are in lower case."""
    made = event("/orders?tag=a&tag=b&empty=", ("Accept", "a"), ("ACCEPT", "b"), ("Cookie", "x=1; y=2"))
    assert made["queryStringParameters"] == {"tag": "a,b", "empty": ""}
    assert made["headers"] == {"accept": "a,b"}
    assert made["cookies"] == ["x=1", "y=2"]


def test_a_body_that_is_no_text_is_in_base64() -> None:
    """And says so."""
    made = event("/orders", body=b"\xff\x00")
    assert (base64.b64decode(made["body"]), made["isBase64Encoded"]) == (b"\xff\x00", True)


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ('{"tenant_id": "acme", "admin": true}', {"tenant_id": "acme", "admin": "true"}),
        ("tenant_id=acme, sub = user-17", {"tenant_id": "acme", "sub": "user-17"}),
    ],
)
def test_claims_come_from_a_header(header: str, claims: dict[str, str]) -> None:
    """As text, which is how API Gateway hands them on."""
    assert http_api.claims_of(request("GET", "/", ("X-Claims", header))) == claims


@pytest.mark.parametrize("header", ["{", "acme", "=acme"])
def test_claims_that_cannot_be_read(header: str) -> None:
    """Are no claims of nobody."""
    with pytest.raises(ClaimsError, match="x-claims"):
        http_api.claims_of(request("GET", "/", ("x-claims", header)))


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        ({"statusCode": 201, "body": "made"}, 201, b"made"),
        ({"statusCode": "204"}, 204, b""),
        ({"statusCode": 200, "body": base64.b64encode(b"\xff").decode(), "isBase64Encoded": True}, 200, b"\xff"),
        ({"orders": []}, 200, b'{"orders": []}'),
        ("text", 200, b'"text"'),
    ],
)
def test_an_answer(answer: Any, status: int, body: bytes) -> None:
    """An object with statusCode says all of it; anything else is JSON with 200."""
    response = http_api.response(answer)
    assert (response.status, response.body) == (status, body)


def test_an_answers_headers_and_cookies() -> None:
    """A cookie is a header of its own."""
    response = http_api.response({"statusCode": 200, "headers": {"X-A": 1}, "cookies": ["a=1", "b=2"], "body": ""})
    assert response.headers == (
        ("X-A", "1"),
        ("content-type", "text/plain;charset=UTF-8"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    )


def test_what_the_gateway_says_by_itself() -> None:
    """In JSON, by its own words."""
    assert http_api.message(HTTPStatus.NOT_FOUND).body == b'{"message": "Not Found"}'


def test_a_templates_routes(tmp_path: Path) -> None:
    """An authorizer is the route's own, its API's, or that of Globals, for the API that SAM makes as well."""
    template = tmp_path / "template.yaml"
    template.write_text(
        """
Globals: { HttpApi: { Auth: { DefaultAuthorizer: Tokens } } }
Resources:
  Open: { Type: AWS::Serverless::HttpApi, Properties: { Auth: { DefaultAuthorizer: NONE } } }
  Closed: { Type: AWS::Serverless::HttpApi, Properties: { Auth: { DefaultAuthorizer: Tokens } } }
  F:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        A: { Type: HttpApi, Properties: { ApiId: !Ref Closed, Method: get, Path: /a } }
        B: { Type: HttpApi, Properties: { ApiId: !Ref Closed, Method: GET, Path: /b, Auth: { Authorizer: NONE } } }
        C: { Type: HttpApi, Properties: { ApiId: !Ref Open, Method: GET, Path: /c } }
        D: { Type: HttpApi, Properties: { Method: GET, Path: /d } }
        E: { Type: HttpApi }
        Queue: { Type: SQS }
  G:
    Type: AWS::Serverless::Function
    Properties: { Events: { A: { Type: Api, Properties: { Path: /g, Method: get } } } }
"""
    )
    routes = http_api.routes(Template(template))
    assert {route.key: route.authorized for route in routes} == {
        "GET /a": True,
        "GET /b": False,
        "GET /c": False,
        "GET /d": True,
        "$default": True,
    }
    assert http_api.not_served(Template(template)) == ["G"]
