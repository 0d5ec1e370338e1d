"""The layer installs what the lock says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "layer/requirements.txt"


def test_the_layer_and_the_lock_agree() -> None:
    """`make lock` writes both; whoever edits one by hand hears of it here."""
    exported = subprocess.run(
        [find_uv_bin(), "export", "--quiet", "--offline", "--frozen", "--no-dev", "--no-emit-project", "--no-header"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout
    assert REQUIREMENTS.read_text() == exported


def test_boto3_is_left_to_the_runtime() -> None:
    """It is in Lambda already, and would add half as much again to the layer."""
    shipped = set(re.findall(r"^([\w-]+)==", REQUIREMENTS.read_text(), re.MULTILINE))
    assert {"sqlalchemy", "psycopg", "psycopg-binary"} <= shipped
    assert not shipped & {"boto3", "botocore", "s3transfer", "urllib3"}
