"""What `sam build` would put into a function: its makefile, run by hand with the Python that runs the tests."""

from __future__ import annotations

import json
import marshal
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from devkit.app.project import Project

PROJECT = Project.find(Path(__file__))
ROOT = PROJECT.root
FUNCTIONS = {name: function.handler for name, function in PROJECT.functions().items()}
# These take the migrations along.
MIGRATES = PROJECT.template.called_at_deploy()
# `handlers.<feature>.<module>.<function>`: a function whose feature has a folder.
FEATURES = {name: handler.split(".")[1] for name, handler in FUNCTIONS.items() if handler.count(".") > 2}
FEATURED = next(iter(FEATURES))
MAKE = shutil.which("make") or "make"
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
# PEP 552: a hash instead of a date, and no comparison with the source.
UNCHECKED_HASH = (0b01).to_bytes(4, "little")

Build = Callable[[str], Path]


def make(
    folder: str, target: str, artifacts: Path, environment: Mapping[str, str] | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The makefile as lambda-builders calls it."""
    given = {"PYTHON": sys.executable, "RUNTIME": PYTHON_VERSION} | variables
    return subprocess.run(
        [MAKE, target, *(f"{name}={value}" for name, value in given.items())],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT / folder,
        env={"PATH": os.environ["PATH"], "ARTIFACTS_DIR": str(artifacts), **(environment or {})},
    )


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A function's artifacts, built once."""
    built: dict[str, Path] = {}

    def artifacts(function: str) -> Path:
        if function not in built:
            built[function] = tmp_path_factory.mktemp(function)
            done = make("src", f"build-{function}", built[function])
            assert done.returncode == 0, done.stderr
        return built[function]

    return artifacts


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_db_and_its_own_handlers(build: Build, function: str) -> None:
    """Neither devkit nor another feature travels with it."""
    folders = {FEATURES[function]} if function in FEATURES else set()
    folders |= {"migrations"} if function in MIGRATES else set()
    artifacts = build(function)
    assert {path.name for path in artifacts.iterdir()} == {"db", "handlers"}
    assert {path.name for path in (artifacts / "handlers").iterdir() if path.is_dir()} == folders | {"__pycache__"}


def test_every_module_has_bytecode_that_is_never_stale(build: Build) -> None:
    """SAM dates a package's files 1980: bytecode that compares dates would be compiled anew at each cold start."""
    artifacts = build(FEATURED)
    sources = set(artifacts.rglob("*.py"))
    compiled = {path.parents[1] / f"{path.name.split('.')[0]}.py": path for path in artifacts.rglob("*.pyc")}
    assert compiled.keys() == sources
    assert {path.read_bytes()[4:8] for path in compiled.values()} == {UNCHECKED_HASH}


def test_a_traceback_names_the_path_in_lambda(build: Build) -> None:
    """The path of the machine that built the package is nobody's business, and would differ from build to build."""
    source = Path(FUNCTIONS[FEATURED].rpartition(".")[0].replace(".", "/"))
    (compiled,) = (build(FEATURED) / source.parent / "__pycache__").glob(f"{source.name}.*.pyc")
    code = marshal.loads(compiled.read_bytes()[16:])  # noqa: S302 - made by this test
    assert code.co_filename == f"/var/task/{source}.py"


def test_what_is_not_python_travels_too(build: Build) -> None:
    """Data files of db are not lost, and the tests' and this machine's files are not taken along."""
    artifacts = build(FEATURED)
    shipped = {path.relative_to(artifacts) for path in artifacts.rglob("*") if "__pycache__" not in path.parts}
    written = {
        path.relative_to(ROOT / "src") for path in (ROOT / "src/db").rglob("*") if "__pycache__" not in path.parts
    }
    assert written <= shipped
    assert not [path for path in shipped if "tests" in path.parts]


@pytest.mark.parametrize(("function", "handler"), FUNCTIONS.items())
def test_a_package_imports_by_itself(build: Build, function: str, handler: str) -> None:
    """Nothing that a function imports was left behind."""
    artifacts, module = build(function), handler.rsplit(".", 1)[0]
    program = (
        f"import json, sys, db, {module} as m; print(json.dumps([db.__file__, m.__file__, 'devkit' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        cwd=artifacts,
        env={"PYTHONPATH": str(artifacts), "DB_SECRET_ID": "none", "AWS_DEFAULT_REGION": "us-east-1"},
    )
    assert done.returncode == 0, done.stderr
    *files, devkit_loaded = json.loads(done.stdout)
    assert all(Path(file).is_relative_to(artifacts) for file in files)
    assert not devkit_loaded


def test_another_python_is_refused(tmp_path: Path) -> None:
    """Bytecode of the wrong version would be ignored in Lambda, silently, at every cold start."""
    done = make("src", "build-HealthFunction", tmp_path / "artifacts", RUNTIME="3.0")
    assert done.returncode != 0
    assert "takes Python 3.0" in done.stderr
    assert not (tmp_path / "artifacts").exists()


def test_a_feature_that_is_not_there_stops_the_build(tmp_path: Path) -> None:
    """A folder renamed without its line in the makefile must not become a package without handlers."""
    done = make("src", f"build-{FEATURED}", tmp_path, FEATURE="nowhere")
    assert done.returncode != 0
    assert "handlers/nowhere" in done.stderr


@pytest.mark.parametrize(
    ("layer", "platform"),
    [("DependenciesLayerArm64", "aarch64-manylinux_2_28"), ("DependenciesLayerX86", "x86_64-manylinux_2_28")],
)
def test_a_layer_takes_the_wheels_of_its_processor(tmp_path: Path, layer: str, platform: str) -> None:
    """The target decides, so no variable of the shell and no parameter can lead to the other's."""
    done = make("layer", f"build-{layer}", tmp_path, MAKEFLAGS="--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"--python-platform {platform} " in done.stdout
    assert "--only-binary :all: --no-deps --require-hashes" in done.stdout
