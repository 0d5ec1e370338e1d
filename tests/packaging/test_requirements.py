"""The layer installs what the lock says."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import requires
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
# Each list with what is left out of it, and what comes with that alone.
LISTS = {
    "db": (),
    "requirements": ("alembic", "jmespath"),
    "alembic": ("sqlalchemy", "psycopg", "aws-lambda-powertools", "typing-extensions"),
}


def packages(name: str) -> set[str]:
    return set(re.findall(r"^([\w-]+)==", (ROOT / f"layer/{name}.txt").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", LISTS)
def test_the_layer_and_the_lock_agree(name: str) -> None:
    """`make lock` writes all of them; whoever edits one by hand hears of it here."""
    pruned = [argument for package in LISTS[name] for argument in ("--prune", package)]
    options = ["--quiet", "--offline", "--frozen", "--no-dev", "--no-emit-project", "--no-header", *pruned]
    exported = subprocess.run(
        [find_uv_bin(), "export", *options], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert (ROOT / f"layer/{name}.txt").read_text() == exported


def test_boto3_is_left_to_the_runtime() -> None:
    """It is in Lambda already, and would add half as much again to the layer."""
    assert not packages("db") & {"boto3", "botocore", "s3transfer", "urllib3"}


def test_the_functions_have_between_them_what_a_layer_of_db_has() -> None:
    """The layer, what the migration takes along, and the jmespath that comes with the runtime's boto3."""
    assert packages("db") == packages("requirements") | packages("alembic") | {"jmespath"}
    assert not packages("requirements") & packages("alembic")
    assert any(re.match(r"jmespath\b", need) for need in requires("botocore") or ())
