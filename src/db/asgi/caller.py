"""What a request says of the invocation that brought it, and how much of that is to be believed. Pure, but for a clock.

Three bring one:

* Mangum calls the application in Lambda's own process, and puts Lambda's event and context into the scope.
* The Lambda Web Adapter calls a server beside it over HTTP, and says both in headers, as JSON.
  https://awslabs.github.io/aws-lambda-web-adapter/features/request-context.html
* Anybody calls a server that is not in Lambda.

A client can send the adapter's headers, too. The adapter replaces them, with each request, and inside of Lambda nobody
else reaches the server's port. So they are believed where this process runs in Lambda and no event is in the scope, as
it is with Mangum, which hands a client's headers on.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from typing import TYPE_CHECKING, Any

from db.timing.deadline import Deadline
from db.timing.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    Scope = MutableMapping[str, Any]

LAMBDA_CONTEXT = b"x-amzn-lambda-context"
REQUEST_CONTEXT = b"x-amzn-request-context"
REQUEST_ID = b"x-request-id"

# It goes into log lines, and into SQL comments.
_USABLE_ID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")


def request_context(scope: Scope) -> Mapping[str, Any]:
    """What API Gateway, a function URL or a load balancer says of the request: ``requestContext`` of Lambda's event.

    Its ``authorizer`` has the claims of a token that was verified. From Mangum's scope, or from the header of the
    Lambda Web Adapter, inside of Lambda only; empty where the request came by no such way.
    """
    event = scope.get("aws.event")
    found = event.get("requestContext") if isinstance(event, dict) else _of_adapter(scope, REQUEST_CONTEXT)
    return found if isinstance(found, dict) else {}


def is_by_adapter(scope: Scope) -> bool:
    """Whether the Lambda Web Adapter brought the request, and Lambda may freeze the process once it is answered."""
    return bool(_of_adapter(scope, LAMBDA_CONTEXT))


def is_a_call(scope: Scope) -> bool:
    """Whether somebody calls: inside of Lambda an event does, and without one it is the adapter's readiness check."""
    return "AWS_LAMBDA_RUNTIME_API" not in os.environ or "aws.context" in scope or is_by_adapter(scope)


def invocation_of(scope: Scope, *, request_timeout_s: float | None, cold: bool, now: float) -> Invocation:
    """The invocation that brought the request, or one that stands for it, which may take ``request_timeout_s``."""
    if "aws.context" in scope:
        return Invocation.from_context(scope["aws.context"], cold=cold, now=now)
    told = _of_adapter(scope, LAMBDA_CONTEXT)
    request_id = told.get("request_id")
    if isinstance(request_id, str):
        return Invocation(request_id=request_id, deadline=_deadline_of(told, now=now), cold=cold)
    deadline = None
    if request_timeout_s is not None:
        deadline = Deadline.after(request_timeout_s, now=now)
    return Invocation(request_id=_request_id(scope), deadline=deadline, cold=cold)


def _deadline_of(told: Mapping[str, Any], *, now: float) -> Deadline | None:
    at_ms = told.get("deadline")  # milliseconds since 1970
    if not isinstance(at_ms, (int, float)) or isinstance(at_ms, bool):
        return None
    return Deadline.after(at_ms / 1000 - now, now=now)


def _request_id(scope: Scope) -> str:
    """The client's own, where it is usable, so that its log and ours name the request alike."""
    said = _header(scope, REQUEST_ID).decode("latin-1")
    return said if _USABLE_ID.fullmatch(said) else str(uuid.uuid4())


def _of_adapter(scope: Scope, name: bytes) -> Mapping[str, Any]:
    if "AWS_LAMBDA_RUNTIME_API" not in os.environ or "aws.event" in scope or "aws.context" in scope:
        return {}
    try:
        found = json.loads(_header(scope, name))
    except ValueError:  # UnicodeDecodeError is one
        return {}
    return found if isinstance(found, dict) else {}


def _header(scope: Scope, name: bytes) -> bytes:
    """The value of a header that is there once, else nothing."""
    values = [value for key, value in scope.get("headers", ()) if key.lower() == name]
    return bytes(values[0]) if len(values) == 1 else b""
