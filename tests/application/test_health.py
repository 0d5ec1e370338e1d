"""The health check."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from handlers import health

from .conftest import Enter

if TYPE_CHECKING:
    from devkit.plugin import MakeLambdaContext


def test_health_says_that_the_database_answers(enter: Enter, lambda_context: MakeLambdaContext) -> None:
    """It needs no table."""
    enter()
    assert health.handler({}, lambda_context(remaining_s=5))["statusCode"] == 200


def test_health_is_unavailable_without_a_database(enter: Enter, lambda_context: MakeLambdaContext) -> None:
    """With nothing said of the reason to who asks without a token."""
    enter(down=True)
    answer = health.handler({}, lambda_context(remaining_s=5))
    assert (answer["statusCode"], answer["headers"]["Retry-After"]) == (503, "2")
    assert json.loads(answer["body"]) == {"status": "unavailable"}
