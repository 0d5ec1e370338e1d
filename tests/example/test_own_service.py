"""docs/start/your-own-service.md, followed to the letter in a copy of the repository.

The page shows the files of a service that is as small as can be. ``own_service`` holds those of one that does more, and
keeps none of the project's own rules: no types, another style.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN_SERVICE = Path(__file__).parent / "own_service"
PAGE = (ROOT / "docs/start/your-own-service.md").read_text()
BIN = Path(sys.executable).parent
CATALOGUE = "events/catalogue.json"
LONGEST_S = 1200

# All that reads the template, the handlers, the events or the migrations. The rest of the tests, and pairs of the
# template's parameters under the linter, are minutes of the same again.
ASKED_OF_THE_SERVICE = (
    "tests/application",
    "tests/contract/test_cold_imports.py",
    "tests/contract/test_documents.py",
    "tests/contract/test_revisions.py",
    "tests/contract/test_settings_everywhere.py",
    "tests/packaging/test_build.py",
    "tests/packaging/test_requirements.py",
    "tests/packaging/test_template.py",
    "tests/devkit/test_project.py",
    "tests/invoices",
)


def console_blocks() -> list[str]:
    return re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def shown_files() -> dict[str, str]:
    """The block of python or JSON under each heading that names a file."""
    found = {}
    for section in re.split(r"^##+ ", PAGE, flags=re.MULTILINE):
        heading, _, content = section.partition("\n")
        blocks = re.findall(r"^```(?:python|json)\n(.*?)^```", content, re.DOTALL | re.MULTILINE)
        if (named := re.search(r"`(.+)`$", heading)) and blocks:
            (found[named[1]],) = blocks
    return found


def run(command: str | list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``command`` on the copy's own sources: they come before those that are installed here."""
    # What pytest tells its own workers is no business of a pytest that runs there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    paths = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder / "src")}
    return subprocess.run(
        command,
        shell=isinstance(command, str),
        executable="/bin/bash" if isinstance(command, str) else None,
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment, **paths, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1"},
        timeout=LONGEST_S,
    )


def succeeded(command: str | list[str], folder: Path) -> str:
    done = run(command, folder)
    assert done.returncode == 0, f"{command}\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def without_the_orders(folder: Path) -> Path:
    """The repository as git has it, with the page's commands done to it."""
    for name in succeeded("git ls-files -z", ROOT).rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    author = "-c user.name=copy -c user.email=copy@example.com -c commit.gpgsign=false"
    succeeded(f"git init --quiet && git add --all && git {author} commit --quiet --message copy", folder)
    *edits, _ = console_blocks()
    for block in edits:
        succeeded(f"set -e\n{block}", folder)
    return folder


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with invoices in the place of the orders."""
    folder = without_the_orders(tmp_path_factory.mktemp("own") / "service")
    shutil.copytree(OWN_SERVICE, folder, dirs_exist_ok=True)
    return folder


def checks(folder: Path) -> list[str]:
    """What ``make check`` runs, less the tests and what only makes the environment."""
    recipe = succeeded(["make", "--dry-run", "--assume-old=.venv/ready", "check", f"BIN={BIN}"], folder)
    return [line for line in recipe.splitlines() if "pytest" not in line]


def test_the_page_ends_with_the_three_verbs() -> None:
    """The blocks before are those that the copy is made with."""
    assert console_blocks()[-1].split("\n") == ["make demo", "make check", "make build", ""]


@pytest.mark.slow
def test_the_files_that_the_page_shows_are_a_service(tmp_path: Path) -> None:
    """Its event is answered as its line of the catalogue expects, and its test passes."""
    folder = without_the_orders(tmp_path / "service")
    (folder / "src/handlers/invoices").mkdir()
    (folder / "src/handlers/invoices/__init__.py").touch()
    shown = shown_files()
    catalogue = folder / CATALOGUE
    *before, last, end = catalogue.read_text().splitlines(keepends=True)
    catalogue.write_text("".join([*before, shown.pop(CATALOGUE), last, end]))
    for name, content in shown.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    assert "\n5 of 5 events answered as expected" in succeeded([sys.executable, "-m", "devkit", "demo"], folder)
    tests = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "tests/invoices"]
    assert succeeded(tests, folder).splitlines()[-1].startswith("1 passed")


@pytest.mark.slow
def test_nothing_of_the_orders_is_left(copy: Path) -> None:
    """Neither in what ships nor in what says how."""
    told = ("template.yaml", "database.yaml", "alembic.ini", "samconfig.toml", "src/handlers", "events")
    assert run(["grep", "-rliE", "orders", *told], copy).stdout == ""


@pytest.mark.slow
def test_the_service_passes_lint_types_and_template(copy: Path) -> None:
    """Though it is in another style, and has no types."""
    commands = checks(copy)
    assert {"ruff", "mypy", "sam"} <= {Path(command.split()[0]).name for command in commands}
    for command in commands:
        succeeded(command, copy)


@pytest.mark.slow
def test_the_demo_runs_the_service(copy: Path) -> None:
    """Each of its events is answered as its case expects."""
    printed = succeeded([sys.executable, "-m", "devkit", "demo"], copy)
    assert "invoices/overdue" in printed
    assert re.search(r"^13 of 13 events answered as expected", printed, re.MULTILINE)


@pytest.mark.slow
def test_every_test_is_collected(copy: Path) -> None:
    """Nothing imports the example."""
    collected = succeeded([sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider"], copy)
    assert re.search(r"^\d+ tests collected in", collected, re.MULTILINE)


@pytest.mark.slow
def test_what_is_asked_of_any_service_holds(copy: Path) -> None:
    """Its artifacts are built and imported, its migrations go up and down, its functions run in the real runtime."""
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *ASKED_OF_THE_SERVICE]
    ended = succeeded(command, copy).splitlines()[-1]
    assert re.fullmatch(r"\d+ passed in .*", ended), ended
