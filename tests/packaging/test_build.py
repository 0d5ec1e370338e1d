"""What `sam build` would put into a function: its makefile, run by hand with the Python that runs the tests."""

from __future__ import annotations

import json
import marshal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .scripts import PROJECT, ROOT, RUNTIME, UNCHECKED_HASH, imported, make

# Those that a layer brings are no part of what is built here.
HANDLERS = {
    name: function.handler
    for name, function in PROJECT.functions().items()
    if not PROJECT.template.resources[name].get("Metadata", {}).get("HandlerInLayer")
}
SOME_FUNCTION = next(iter(HANDLERS))
# These take the migrations along.
MIGRATES = PROJECT.template.called_at_deploy()

Build = Callable[[str], Path]
every_function = pytest.mark.parametrize("function", HANDLERS)


def module_of(function: str) -> str:
    return HANDLERS[function].rpartition(".")[0]


def features(function: str) -> set[str]:
    """The folders of handlers/ that are this function's business."""
    named = HANDLERS[function].split(".")[1]
    own = {named} if (ROOT / "src/handlers" / named).is_dir() else set()
    return own | ({"migrations"} if function in MIGRATES else set())


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A function's artifacts, built once."""
    built: dict[str, Path] = {}

    def artifacts(function: str) -> Path:
        if function not in built:
            built[function] = tmp_path_factory.mktemp(function)
            done = make("src", f"build-{function}", built[function], RUNTIME=RUNTIME, HANDLER=HANDLERS[function])
            assert done.returncode == 0, done.stderr
        return built[function]

    return artifacts


@every_function
def test_a_function_is_db_and_its_own_handlers(build: Build, function: str) -> None:
    """Neither devkit nor another feature travels with it. Alembic does, with what migrates: no other imports it."""
    artifacts = build(function)
    alembic = {"alembic", "mako", "markupsafe"} if function in MIGRATES else set()
    installed = {path.name for path in artifacts.iterdir() if path.suffix != ".dist-info"}
    assert installed == {"db", "handlers"} | alembic
    for one in MIGRATES:
        assert (artifacts / f"{module_of(one).replace('.', '/')}.py").is_file() is (function == one)
    folders = {path.name for path in (artifacts / "handlers").iterdir() if path.is_dir()}
    assert folders == features(function) | {"__pycache__"}


def test_every_module_has_bytecode_that_is_never_stale(build: Build) -> None:
    """SAM dates a package's files 1980: bytecode that compares dates would be compiled anew at each cold start."""
    artifacts = build(SOME_FUNCTION)
    sources = set(artifacts.rglob("*.py"))
    handlers = artifacts / "handlers"
    compiled = {path.parents[1] / f"{path.name.split('.')[0]}.py" for path in handlers.rglob("*.pyc")}
    assert compiled == sources
    assert {path.read_bytes()[4:8] for path in artifacts.rglob("*.pyc")} == {UNCHECKED_HASH}


def test_db_is_bytecode_alone(build: Build) -> None:
    """At the place of each source; it says in which line an instruction stands, and not in which column."""
    db = build(SOME_FUNCTION) / "db"
    modules = {path.relative_to(ROOT / "src/db").with_suffix(".pyc") for path in (ROOT / "src/db").rglob("*.py")}
    assert {path.relative_to(db) for path in db.rglob("*.pyc")} == modules
    code = marshal.loads((db / "errors.pyc").read_bytes()[16:])  # noqa: S302 - made by this test
    lines, _, columns, _ = zip(*code.co_positions(), strict=True)
    assert code.co_filename == "/var/task/db/errors.py"
    assert max(line for line in lines if line) > 100
    assert set(columns) == {None}


def test_what_migrates_serves_both_processors(build: Build) -> None:
    """The function's processor is a parameter of the template, so none of its packages may be compiled for one."""
    (function,) = MIGRATES
    assert not list(build(function).rglob("*.so"))


@every_function
def test_a_traceback_names_the_path_in_lambda(build: Build, function: str) -> None:
    """The path of the machine that built the package is nobody's business, and would differ from build to build."""
    source = Path(f"{module_of(function).replace('.', '/')}.py")
    (compiled,) = (build(function) / source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")
    code = marshal.loads(compiled.read_bytes()[16:])  # noqa: S302 - made by this test
    assert code.co_filename == f"/var/task/{source}"


def test_what_is_not_python_travels_too(build: Build) -> None:
    """Data files of db are not lost, and the tests' and this machine's files are not taken along."""
    artifacts = build(SOME_FUNCTION)
    shipped = {path.relative_to(artifacts) for path in artifacts.rglob("*") if "__pycache__" not in path.parts}
    written = {
        path.relative_to(ROOT / "src")
        for path in (ROOT / "src/db").rglob("*")
        if "__pycache__" not in path.parts and path.suffix != ".py"
    }
    assert written <= shipped
    assert not [path for path in shipped if "tests" in path.parts]


@pytest.mark.slow
@every_function
def test_a_package_imports_by_itself(build: Build, function: str) -> None:
    """Nothing that a function imports was left behind."""
    artifacts, module = build(function), module_of(function)
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
    handler = HANDLERS[SOME_FUNCTION]
    done = make("src", "build-F", tmp_path / "artifacts", RUNTIME="python3.0", HANDLER=handler)
    assert done.returncode != 0
    assert "takes Python 3.0" in done.stderr
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    ("handler", "missing"),
    [
        ("handlers.nowhere.api.handler", "there is no handlers/nowhere/api.py"),
        ("handlers.handler", "handlers/__init__.py defines no handler"),
        ("handler", "the handler 'handler' is no module.function"),
    ],
)
def test_a_handler_that_is_not_in_the_artifact_fails_the_build(tmp_path: Path, handler: str, missing: str) -> None:
    """Not the first invocation. The template's Handler is what has to be there."""
    done = built_as_a_template_says(tmp_path, handler)
    assert done.returncode != 0
    assert missing in done.stderr


def built_as_a_template_says(folder: Path, handler: str, **more: object) -> subprocess.CompletedProcess[str]:
    """A function of a template that is not this repository's."""
    resource = {"Type": "AWS::Serverless::Function", "Properties": {"Runtime": RUNTIME, "Handler": handler}, **more}
    (folder / "template.json").write_text(json.dumps({"Resources": {"F": resource}}))
    return make("src", "build-F", folder / "artifacts", {"SAM_TEMPLATE": str(folder / "template.json")})


def test_a_handler_that_a_layer_brings_is_not_looked_for(tmp_path: Path) -> None:
    """A vendor's wrapper, for instance. The template says so, and the refusal without says how."""
    refused = built_as_a_template_says(tmp_path, "awsgi.handler")
    assert "there is no awsgi.py. Where a layer brings it: Metadata: {HandlerInLayer: true}, on F" in refused.stderr
    done = built_as_a_template_says(tmp_path, "awsgi.handler", Metadata={"HandlerInLayer": True})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "artifacts/db").is_dir()


@pytest.mark.parametrize("said", [False, "false"])
def test_a_handler_that_no_layer_brings_may_say_so(tmp_path: Path, said: object) -> None:
    """It is what the template means by saying nothing."""
    done = built_as_a_template_says(tmp_path, "awsgi.handler", Metadata={"HandlerInLayer": said})
    assert "there is no awsgi.py" in done.stderr


def test_what_else_a_function_reads_may_stand_under_its_name(tmp_path: Path) -> None:
    """Functions behind one wrapper have a handler in common, and not their modules."""
    features = "handlers/migrations"
    done = make("src", "build-F", tmp_path, RUNTIME=RUNTIME, HANDLER="a.b", HANDLER_IN_LAYER="true", ALSO_F=features)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "handlers/migrations").is_dir()


@pytest.mark.parametrize(
    ("source", "there"),
    [
        ("def handler(event, context): ...", True),
        ("async def handler(event, context): ...", True),
        ("if True:\n    handler = print", True),
        ("from elsewhere import handler", True),
        ("from elsewhere import *", True),
        ("print(handler)", False),
        ("class A:\n    def handler(self): ...", False),
        ("# def handler(event, context): ...", False),
    ],
)
def test_a_handler_is_any_name_that_its_module_binds(tmp_path: Path, source: str, there: bool) -> None:
    """The module is read and not run, for what it imports is in the layer."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "__init__.py").write_text(source)
    problem = imported("src/check_handler.py").problem(tmp_path, "a.handler", "F")
    assert (problem is None) is there


def test_a_package_hides_a_module_of_its_name(tmp_path: Path) -> None:
    """Python imports the package, so that is what has to bind the handler."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "__init__.py").touch()
    (tmp_path / "a.py").write_text("def handler(event, context): ...")
    problem = imported("src/check_handler.py").problem
    assert (
        problem(tmp_path, "a.handler", "F")
        == "the handler a.handler is not in the artifact: a/__init__.py defines no handler"
    )
