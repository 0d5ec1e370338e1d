"""One place names the runtime, and one verb's RUNTIME another: what follows them, and what says the same."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from devkit.app.template import Template

from .scripts import ENVIRONMENT, MAKE, PROJECT, ROOT, imported

TEMPLATE = PROJECT.template.content
RUNTIME = TEMPLATE["Globals"]["Function"]["Runtime"]
LAYERS = imported("layer/build.py").RUNTIMES


def told(verb: str, *variables: str) -> subprocess.CompletedProcess[str]:
    """What make would do, without its setting up of an environment."""
    old = [f"--old-file=.venv{of}/ready" for of in ("", "-3.12", "-3.13", "-3.14")]
    command = [MAKE, "--no-print-directory", "--dry-run", *old, verb, *variables]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT)


def test_the_template_says_it_once() -> None:
    """Every function and every layer of it is for that one."""
    properties = [one["Properties"] for one in TEMPLATE["Resources"].values()]
    assert {one["Runtime"] for one in properties if "Runtime" in one} <= {RUNTIME}
    assert {tuple(one["CompatibleRuntimes"]) for one in properties if "CompatibleRuntimes" in one} == {(RUNTIME,)}
    assert re.findall(r"python3\.\d+", PROJECT.template.path.read_text()) == [RUNTIME]


def test_what_cannot_read_the_template_says_the_same() -> None:
    """uv and pyenv read .python-version; the stack of the database is deployed by itself."""
    assert (ROOT / ".python-version").read_text().strip() == RUNTIME.removeprefix("python")
    resources = Template(ROOT / "database.yaml").resources.values()
    assert {one["Properties"]["Runtime"] for one in resources if "Runtime" in one.get("Properties", {})} == {RUNTIME}


def test_each_runtime_that_make_takes_is_one_that_a_layer_is_built_for() -> None:
    """And that both distributions say they run on."""
    taken = re.findall(r"^PYTHONS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [f"python{version}" for version in taken[0].split()] == list(LAYERS)
    for file in ("pyproject.toml", "src/devkit/pyproject.toml"):
        classifiers = tomllib.loads((ROOT / file).read_text())["project"]["classifiers"]
        assert {f"Programming Language :: Python :: {version}" for version in taken[0].split()} <= set(classifiers)


@pytest.mark.parametrize("verb", ["build", "demo", "serve", "rehearse", "deploy", "sam-local"])
def test_a_verb_takes_another_runtime(verb: str) -> None:
    """In an environment of that Python, which the usual one survives; without one, the template's."""
    for runtime in ("3.14", "python3.14"):
        assert re.search(
            rf"^\.venv-3\.14/bin/python -m devkit {verb} .*--runtime 3\.14$",
            ran := told(verb, f"RUNTIME={runtime}").stdout.strip(),
        ), ran
    usual = told(verb).stdout
    assert usual.startswith(f".venv/bin/python -m devkit {verb} ")
    assert "--runtime" not in usual


def test_the_tests_run_on_another_runtime() -> None:
    """All of them, or the core."""
    for verb in ("test", "core"):
        assert {line.split()[0] for line in told(verb, "RUNTIME=3.14").stdout.splitlines()} == {".venv-3.14/bin/pytest"}


@pytest.mark.parametrize("runtime", ["3.9", "ruby3.3", "3"])
def test_a_runtime_that_is_none_is_refused_by_name(runtime: str) -> None:
    """Before an environment is made for it."""
    done = told("build", f"RUNTIME={runtime}")
    assert done.returncode != 0
    assert f"RUNTIME={runtime}: it is to be one of 3.12 3.13 3.14." in done.stderr
