"""The workflow that users copy calls what there is."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "examples" / "github-actions" / "deploy.yml"
COMMANDS = [
    step["run"]
    for job in yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    for step in job["steps"]
    if "run" in step
]


def test_the_verbs_that_it_calls_are_the_makefiles() -> None:
    """A renamed one would show in somebody else's repository."""
    called = {verb for command in COMMANDS for verb in re.findall(r"make (\w+)", command)}
    verbs = set(re.findall(r"^([\w-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert called == {"check", "certs", "deploy"} <= verbs


def test_only_the_job_that_deploys_may_ask_for_a_role() -> None:
    """Code of a pull request runs in the other one."""
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["deploy"]
    assert "refs/heads/main" in jobs["deploy"]["if"]
    assert "id-token" not in yaml.safe_load(WORKFLOW.read_text())["permissions"]
