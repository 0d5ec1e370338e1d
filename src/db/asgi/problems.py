"""Errors in HTTP (RFC 9457): the status says whose turn it is, and the body why. No trace reaches a client."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from db.errors import DeadlineError, TenantError, Verdict, sqlstate, verdict
from db.telemetry.log import log_answered_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

RETRY_AFTER_S = 1
# A statement, a wait for a lock, a transaction, by the limits of its time.
_TIMED_OUT = {"57014", "55P03", "25P04"}


class Answer(NamedTuple):
    """What to answer a request that failed: status, reason, and when to come again, in seconds, where that may help."""

    status: int
    reason: str
    retry_after_s: int | None = None


def answer_to(error: BaseException) -> Answer:
    """The answer to ``error``. Total: one that is not known is a 500, whose reason says nothing of it."""
    if isinstance(error, TenantError):
        return Answer(HTTPStatus.FORBIDDEN, str(error))
    if isinstance(error, DeadlineError):
        return _later("there was no time left to do it; nothing was done")
    if sqlstate(error) in _TIMED_OUT:
        return _later("it took too long and was stopped; nothing was done")
    said = verdict(error)
    if said is Verdict.OUTCOME_UNKNOWN:
        return Answer(HTTPStatus.GATEWAY_TIMEOUT, "it may or may not have been done: look before trying again")
    if said.transient:
        return _later("the database cannot be reached now; nothing was done")
    return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "something is wrong on this side; it has been logged")


def _later(reason: str) -> Answer:
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, reason, RETRY_AFTER_S)


async def problem(_request: object, error: Exception) -> Any:  # what a framework calls a response
    """An exception handler for FastAPI and Starlette: ``app.add_exception_handler(db.DbError, db.asgi.problem)``.

    Answers as ``answer_to`` says, and logs what is not the caller's own doing.
    """
    answer = answer_to(error)
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log_answered_failure(error, status=answer.status)
    return Problem(answer)


class Problem:
    """A response: an application that answers alike whatever it is asked."""

    background = None

    def __init__(self, answer: Answer) -> None:
        self.status_code = int(answer.status)
        title = HTTPStatus(answer.status).phrase
        self.body = json.dumps({"title": title, "status": self.status_code, "reasons": [answer.reason]}).encode()
        self.raw_headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(self.body)).encode()),
        ]
        if answer.retry_after_s is not None:
            self.raw_headers.append((b"retry-after", str(answer.retry_after_s).encode()))

    async def __call__(self, _scope: object, _receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})
