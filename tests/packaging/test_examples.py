"""The templates of examples/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("template", sorted(EXAMPLES.glob("*/template.yaml")), ids=lambda path: path.parent.name)
def test_an_examples_template_is_valid(template: Path) -> None:
    """As the linter of `sam validate --lint` sees it."""
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--regions", "eu-central-1", "--", template.name]
    done = subprocess.run(command, cwd=template.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
