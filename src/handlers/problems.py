"""Failures as HTTP answers (RFC 9457): the status says whose turn it is, the body why; no trace reaches a client."""

from __future__ import annotations

import json
from http import HTTPStatus

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response

import db
from handlers import RETRY_AFTER_S

logger = Logger()

CONTENT_TYPE = "application/problem+json"
TIMED_OUT = {"57014", "55P03", "25P04"}  # a statement, a wait for a lock, a transaction, by the limits of its time


class Problem(Exception):  # noqa: N818 - it is an answer as much as an error
    """An answer other than success: an HTTP status and the reasons for it."""

    def __init__(self, status: int, *reasons: str) -> None:
        self.status = status
        self.reasons = reasons
        super().__init__(status, *reasons)

    def response(self) -> Response[str]:
        body = {"title": HTTPStatus(self.status).phrase, "status": self.status, "reasons": self.reasons}
        headers: dict[str, str | list[str]] = {}
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        return Response(self.status, content_type=CONTENT_TYPE, headers=headers, body=json.dumps(body))


def problem_for(error: Exception) -> Problem:
    """The answer to ``error``, logged where it is not the caller's own doing."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, db.TenantError):
        return Problem(403, str(error))
    problem = _problem_on_this_side(error)
    logger.error("request failed", status=problem.status, exc_info=error)
    return problem


def _problem_on_this_side(error: Exception) -> Problem:
    if isinstance(error, db.DeadlineError):
        return Problem(503, "there was no time left to do it; nothing was done")
    if db.sqlstate(error) in TIMED_OUT:
        return Problem(503, "it took too long and was stopped; nothing was done")
    verdict = db.verdict(error)
    if verdict is db.Verdict.OUTCOME_UNKNOWN:
        return Problem(504, "it may or may not have been done: look before trying again")
    if verdict.transient:
        return Problem(503, "the database cannot be reached now; nothing was done")
    return Problem(500, "something is wrong on this side; it has been logged")
