"""What a cold start does not pay for: the modules that must not be there when a handler has been imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
# Each loads where it is first used: boto3 with a secret outside Lambda, the ORM with db.session, Alembic with a
# migration.
HEAVY = {
    "alembic",
    "boto3",
    "botocore.session",
    "urllib3",
    "devkit",
    "moto",
    "pydantic",
    "sqlalchemy.orm",
    "db.aio",
    "greenlet",
}
HANDLERS = {
    "handlers.health": {"aws_lambda_powertools.event_handler", "aws_lambda_powertools.utilities.batch"},
    "handlers.migrate": {"aws_lambda_powertools.event_handler", "aws_lambda_powertools.utilities.batch"},
    "handlers.orders.api": {"aws_lambda_powertools.utilities.batch"},
    "handlers.orders.intake": {"aws_lambda_powertools.event_handler", "aws_lambda_powertools.utilities.batch"},
    "handlers.orders.report": {"aws_lambda_powertools.event_handler", "aws_lambda_powertools.utilities.batch"},
}


def loaded_by(module: str) -> set[str]:
    """The modules in a fresh interpreter that has imported ``module``, and no more."""
    program = (
        f"import sys, json; sys.path.insert(0, {str(SRC)!r}); import {module}; print(json.dumps(list(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", HANDLERS)
def test_a_handler_loads_nothing_that_it_may_not_need(module: str) -> None:
    """Neither what the layer loads on use, nor what another handler is made of."""
    assert loaded_by(module) & (HEAVY | HANDLERS[module]) == set()


def test_no_module_takes_a_name_of_the_standard_library() -> None:
    """It would shadow it for everything in the same process."""
    taken = {path.stem for path in SRC.glob("*")} & sys.stdlib_module_names
    assert taken == set()
