"""What `sam build` puts into the layer: its makefile, run for both processors, and all of it imported for this one."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devkit.lambda_runtime.environment import LambdaEnvironment
from devkit.lambda_runtime.image import find_interpreter
from devkit.rehearsal.functions import brought

from .scripts import ARCH, ENVIRONMENT, PROJECT, ROOT, RUNTIME, UNCHECKED_HASH, imported, make, size_of

if TYPE_CHECKING:
    from devkit.servers.database import Database

HEALTH = "handlers.health.handler"

pytestmark = pytest.mark.slow

SIZES = ROOT / "layer/sizes.json"
# What a release of Python or of a build tool moves without anything having been added.
SLACK = 1.01
ELSEWHERE = {"arm64": "x86_64", "x86_64": "arm64"}[ARCH]
TAGS = {"arm64": "aarch64-linux-gnu", "x86_64": "x86_64-linux-gnu"}

# The one interpreter that is to see it has nothing else, no site-packages, no user's, no variables, but for jmespath:
# that comes with the runtime's boto3.
IMPORT_ALL = """
import importlib, json, pkgutil, sys, warnings
warnings.simplefilter("ignore")
folder, runtime = sys.argv[1:]
sys.path[:0] = [folder, runtime]
missing = {}
def note(name):
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing[name] = str(error)
seen = [module.name for module in pkgutil.walk_packages([folder], onerror=note)]
for name in seen:
    note(name)
import psycopg, sqlalchemy.util
print(json.dumps([len(seen), missing, psycopg.pq.__impl__, sqlalchemy.util.has_compiled_ext(), psycopg.__file__]))
"""
# What a module that cannot be imported is missing: a package that is not ours to ship.
OPTIONAL = {
    *("'boto3'", "'botocore'", "'urllib3'", "'pydantic'", "'fastjsonschema'", "'avro'", "'google'"),
    "'greenlet'",
}


def built(artifacts: Path, arch: str) -> Path:
    """The layer's folder `python` for a processor, under a logical id that no template has."""
    done = make("layer", "build-AnyName", artifacts, RUNTIME=RUNTIME, ARCH=arch)
    assert done.returncode == 0, done.stderr
    return artifacts / "python"


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For this machine's processor, built once."""
    return built(tmp_path_factory.mktemp("layer"), ARCH)


@pytest.fixture(scope="module")
def layer_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the processor that no test here can run on."""
    return built(tmp_path_factory.mktemp("elsewhere"), ELSEWHERE)


def test_everything_that_ships_can_be_imported(layer: Path, tmp_path: Path) -> None:
    """From bytecode alone, but for what takes a package that the runtime or the user brings."""
    (of_the_runtime,) = importlib.import_module("jmespath").__path__
    shutil.copytree(of_the_runtime, tmp_path / "jmespath")
    command = [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(layer), str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen, missing, wrapper, compiled, file = json.loads(done.stdout.splitlines()[-1])
    assert {name: why for name, why in missing.items() if not any(what in why for what in OPTIONAL)} == {}
    assert len(missing) < seen / 10
    assert (wrapper, compiled) == ("binary", True)
    assert Path(file).is_relative_to(layer)


def test_the_layer_is_no_larger_than_it_was(layer: Path, layer_elsewhere: Path) -> None:
    """A dependency that doubles a cold start's unpacking comes in by a decision, and not by a lock that moved."""
    sizes = {ARCH: size_of(layer), ELSEWHERE: size_of(layer_elsewhere)}
    recorded = json.loads(SIZES.read_text())[RUNTIME]
    grown = {arch: size for arch, size in sizes.items() if size > recorded[arch] * SLACK}
    meant = json.dumps({RUNTIME: sizes}, sort_keys=True)
    assert not grown, f"larger than {SIZES.name} says. If that is meant, write there: {meant}"


def test_the_record_is_of_this_layer(layer: Path, layer_elsewhere: Path) -> None:
    """A record far above what is built would let it grow unseen."""
    recorded = json.loads(SIZES.read_text())[RUNTIME]
    assert size_of(layer) > recorded[ARCH] * 0.9
    assert size_of(layer_elsewhere) > recorded[ELSEWHERE] * 0.9


def test_a_layer_takes_the_wheels_of_its_processor(layer: Path, layer_elsewhere: Path) -> None:
    """And of its runtime."""
    version = RUNTIME.removeprefix("python").replace(".", "")
    for folder, arch in ((layer, ARCH), (layer_elsewhere, ELSEWHERE)):
        libraries = {path.name.split(".", 1)[1] for path in folder.rglob("*.cpython-*.so")}
        assert libraries == {f"cpython-{version}-{TAGS[arch]}.so"}


def test_the_layer_is_bytecode_that_is_never_stale(layer: Path) -> None:
    """Without sources and stubs, and without the folders that ordinary bytecode would be in."""
    assert not [path for pattern in ("*.py", "*.pyi", "__pycache__") for path in layer.rglob(pattern)]
    compiled = list(layer.rglob("*.pyc"))
    assert len(compiled) > 300
    assert {path.read_bytes()[4:8] for path in compiled} == {UNCHECKED_HASH}


def test_versions_can_still_be_read(layer: Path) -> None:
    """psycopg and SQLAlchemy ask for theirs, and a scanner for all."""
    names = {path.name.partition("-")[0] for path in layer.glob("*.dist-info") if (path / "METADATA").is_file()}
    assert {"psycopg", "psycopg_binary", "sqlalchemy", "aws_lambda_powertools"} <= names


def test_a_function_answers_from_what_was_built(layer: Path, tmp_path: Path, database: Database) -> None:
    """One event in the Lambda runtime of this Python, on its own bytecode, beside what Lambda's image brings."""
    (case,) = (case for case in PROJECT.cases() if PROJECT.functions()[case.function].handler == HEALTH)
    code = tmp_path / "code"
    done = make("src", f"build-{case.function}", code, RUNTIME=RUNTIME, HANDLER=HEALTH)
    assert done.returncode == 0, done.stderr
    compiled = [path for folder in (code, layer) for path in folder.rglob("*.pyc")]
    assert {path.read_bytes()[:4] for path in compiled} == {importlib.util.MAGIC_NUMBER}
    with LambdaEnvironment(
        handler=HEALTH,
        code=[code, layer, brought(tmp_path / "image")],
        environment={"DB_URL": database.url()},
        timeout_s=60,
        python=find_interpreter(RUNTIME),
    ) as environment:
        assert case.problem(environment.invoke(case.payload).payload) is None


def test_make_layer_makes_one_of_db_with_whatever_else_is_asked_for(tmp_path: Path) -> None:
    """db keeps its sources beside the bytecode; Powertools' parser is there, for pydantic is."""
    more, out = tmp_path / "requirements.txt", tmp_path / "out"
    more.write_text("pydantic>=2\n")
    command = [sys.executable, str(ROOT / "layer/build.py"), str(out), "--project", str(ROOT), "--also", str(more)]
    done = subprocess.run(
        [*command, "--runtime", RUNTIME, "--arch", ARCH], check=False, capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 0, done.stderr
    assert "bytes unzipped" in done.stdout
    assert f"function with all its layers {250 * 2**20}: https://docs.aws.amazon.com/" in done.stdout
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import db; "
        "from aws_lambda_powertools.utilities.parser import BaseModel; print(db.__file__, db.__cached__)"
    )
    used = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(out / "python")], check=False, capture_output=True, text=True
    )
    source, bytecode = used.stdout.split()
    assert source == str(out / "python/db/__init__.py")
    assert Path(bytecode).read_bytes()[4:8] == UNCHECKED_HASH


def test_the_builds_own_word_for_its_limit_is_lambdas() -> None:
    """Lambda's "250 MB" are 1,048,576 bytes each."""
    assert imported("layer/build.py").LIMIT_BYTES == 262_144_000
