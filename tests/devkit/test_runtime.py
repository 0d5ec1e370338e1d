"""The Python that functions are for: what a template names, another in its place, and artifacts that are of neither."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from devkit import cli
from devkit.app import artifacts
from devkit.app.errors import ProjectError
from devkit.app.runtime import asked_for, on
from devkit.app.sam_cli import as_a_file
from devkit.app.template import Template
from devkit.lambda_runtime.environment import RUNNING, lambda_variables

if TYPE_CHECKING:
    from pathlib import Path

VERSION = RUNNING.removeprefix("python")
MAGIC_OF = {version: number.to_bytes(2, "little") + b"\r\n" for number, version in artifacts.MAGIC_NUMBERS.items()}


def template(runtime: Any = "python3.12", *, own: Any = None) -> dict[str, Any]:
    """A function, by Globals or by itself, and its layer, which may be one of two."""
    layer = {
        "Type": "AWS::Serverless::LayerVersion",
        "Properties": {"ContentUri": "L", "CompatibleRuntimes": [runtime]},
    }
    properties = {"Handler": "a.b", "CodeUri": "F", **({"Runtime": own} if own else {})}
    layers = [{"Fn::If": ["Small", {"Ref": "L"}, {"Ref": "Elsewhere"}]}]
    return {
        "Globals": {"Function": {"Runtime": runtime, "Layers": layers}},
        "Resources": {"F": {"Type": "AWS::Serverless::Function", "Properties": properties}, "L": layer},
    }


def written(folder: Path, content: dict[str, Any], files: dict[str, bytes]) -> Path:
    """What a build leaves."""
    for name, text in {"F/a.py": b"", **files, "template.yaml": json.dumps(content).encode()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    return folder


@pytest.mark.parametrize("text", [VERSION, RUNNING])
def test_a_runtime_may_be_named_by_its_version(text: str) -> None:
    """As people write it, and as Lambda does."""
    assert asked_for(text) == RUNNING


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ruby3.3", f"--runtime ruby3.3: {RUNNING} is one"),
        ("", f"--runtime : {RUNNING} is one"),
        ("3.2", f"--runtime 3.2: what runs here is {RUNNING}. With RUNTIME=3.2, make has"),
    ],
)
def test_a_runtime_that_is_not_here_is_refused_by_name(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is read, built or deployed: nothing here could compile for it."""
    for command in ("build", "demo", "rehearse"):
        assert cli.main([command, "--root", str(tmp_path), "--runtime", text]) == 2
        assert why in capsys.readouterr().err


def test_another_runtime_is_that_of_every_function_and_layer() -> None:
    """What is no Python stays as it is, and so does the template itself."""
    content = template(own="python3.12")
    content["Resources"]["Node"] = {"Type": "AWS::Serverless::Function", "Properties": {"Runtime": "nodejs22.x"}}
    changed = on(content, "python3.14")
    assert changed["Globals"]["Function"]["Runtime"] == "python3.14"
    assert changed["Resources"]["F"]["Properties"]["Runtime"] == "python3.14"
    assert changed["Resources"]["L"]["Properties"]["CompatibleRuntimes"] == ["python3.14"]
    assert changed["Resources"]["Node"] == content["Resources"]["Node"]
    assert "python3.14" not in json.dumps(content)


def test_a_runtime_that_a_parameter_decides_cannot_be_another(tmp_path: Path) -> None:
    """Deploys would give the parameter a value of theirs, whatever was built."""
    with pytest.raises(ProjectError, match=r'--runtime python3\.14: Runtime of Globals is {"Ref": "Python"}'):
        on(template({"Ref": "Python"}), "python3.14")


def test_a_build_reads_the_other_runtime_from_a_file_beside_the_template(tmp_path: Path) -> None:
    """So that folders and samconfig.toml are found. It is gone afterwards."""
    path = written(tmp_path, template(), {}) / "template.yaml"
    with as_a_file(Template(path)) as same:
        assert same == (path, {"SAM_TEMPLATE": str(path)})  # a layer's makefile may lie anywhere else
    with as_a_file(Template(path, runtime="python3.14")) as (other, environment):
        assert (other.parent, environment) == (tmp_path, {"SAM_TEMPLATE": str(other)})
        assert json.loads(other.read_text()) == on(template(), "python3.14")
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == [path.name]


def test_a_function_is_told_its_runtime(tmp_path: Path) -> None:
    """As Lambda does; where nobody says which, it is the Python that runs."""
    told = [
        lambda_variables(handler="a.b", code=[tmp_path], timeout_s=1, memory_mb=1, name="F", **said)[
            "AWS_EXECUTION_ENV"
        ]
        for said in ({"runtime": "python3.14"}, {})
    ]
    assert told == ["AWS_Lambda_python3.14", f"AWS_Lambda_{RUNNING}"]


def test_this_python_has_the_bytecode_that_is_known_of_it() -> None:
    """So has each other that runs these tests."""
    import importlib.util

    number = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
    assert artifacts.MAGIC_NUMBERS[number] == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_what_was_built_for_the_runtime_passes(tmp_path: Path) -> None:
    """Bytecode, beside its source or in its place; what any version loads says nothing."""
    files = {
        "F/__pycache__/a.cpython-312.pyc": MAGIC_OF["3.12"],
        "L/python/b.pyc": MAGIC_OF["3.12"],
        "L/python/c.abi3.so": b"",
    }
    artifacts.check(written(tmp_path, template(), files))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("F/__pycache__/a.cpython-313.pyc", b"", "F: the Runtime is python3.12, and what was built is of Python 3.13"),
        (
            "L/python/b.pyc",
            MAGIC_OF["3.14"],
            "L, a layer of F: the Runtime is python3.12, and what was built is of Python 3.14",
        ),
        ("L/python/c.cpython-313-x86_64-linux-gnu.so", b"", "L, a layer of F: the Runtime is python3.12, and what was"),
    ],
)
def test_what_was_built_for_another_is_refused_by_name(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    """Lambda would compile at each cold start, or fail at the first import of a wheel."""
    with pytest.raises(ProjectError) as refused:
        artifacts.check(written(tmp_path, template(), {name: content}))
    assert str(refused.value).startswith(problem)
    assert str(refused.value).endswith(f"such as {name.partition('/')[2]}")


def test_a_function_of_a_runtime_of_its_own_is_refused_a_layer_of_the_others(tmp_path: Path) -> None:
    """It was changed in one place of two."""
    files = {"F/a.pyc": MAGIC_OF["3.13"], "L/python/b.pyc": MAGIC_OF["3.12"]}
    with pytest.raises(ProjectError, match=r"^L, a layer of F: the Runtime is python3\.13, .* is of Python 3\.12"):
        artifacts.check(written(tmp_path, template(own="python3.13"), files))
