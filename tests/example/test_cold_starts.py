"""What the example's functions do not load: the budget of an application that was written to start fast."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ROUTER = "aws_lambda_powertools.event_handler"
BATCH = "aws_lambda_powertools.utilities.batch"
HEAVY = {"alembic", "boto3", "db.aio", "pydantic", "sqlalchemy.orm", BATCH}


@pytest.mark.parametrize(
    ("module", "forbidden"), [("api", HEAVY), ("intake", HEAVY | {ROUTER}), ("report", HEAVY | {ROUTER})]
)
def test_a_function_loads_what_it_is_made_of_and_no_more(module: str, forbidden: set[str]) -> None:
    """In a fresh interpreter."""
    program = f"import sys, json, handlers.orders.{module}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert set(json.loads(done.stdout.splitlines()[-1])) & forbidden == set()
