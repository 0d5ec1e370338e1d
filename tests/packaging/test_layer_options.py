"""For which runtime and processor a layer is: told, or read from the template, and refused where neither is clear."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .scripts import ENVIRONMENT, imported, run

if TYPE_CHECKING:
    from pathlib import Path

build = imported("layer/build.py")

RUNTIME_MISSING = "RUNTIME is missing: for which of python3.12, python3.13, python3.14 is the layer?"
ARCH_MISSING = "ARCH is missing: for which of arm64, x86_64 is the layer?"


def said(*arguments: str | Path) -> str:
    """What the build says as it refuses."""
    done = run("layer/build.py", *arguments)
    assert done.returncode != 0
    return done.stderr.strip()


def layer_template(folder: Path, name: str = "template.json", **properties: Any) -> Path:
    template = folder / name
    template.parent.mkdir(exist_ok=True)
    resource = {"Type": "AWS::Serverless::LayerVersion", "Properties": properties}
    template.write_text(json.dumps({"Resources": {"SharedCode": resource}}))
    return template


@pytest.mark.parametrize(
    ("told", "refusal"),
    [
        ([], f"{RUNTIME_MISSING}; {ARCH_MISSING}"),
        (["--runtime", "python3.13"], ARCH_MISSING),
        (["--arch", "arm64"], RUNTIME_MISSING),
        (
            ["--runtime", "python3.10"],
            "a layer can be built for python3.12, python3.13, python3.14, and not for 'python3.10'; " + ARCH_MISSING,
        ),
        (
            ["--runtime", "python3.9", "--arch", "arm64"],
            "a layer can be built for python3.12, python3.13, python3.14, and not for 'python3.9'",
        ),
        (
            ["--runtime", "python3.13", "--arch", "aarch64"],
            "a layer can be built for arm64, x86_64, and not for 'aarch64'",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_can(tmp_path: Path, told: list[str], refusal: str) -> None:
    """All of it at once, before anything is fetched."""
    assert said(tmp_path / "out", *told) == refusal
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("properties", "refusal"),
    [
        ({"CompatibleRuntimes": ["python3.12", "python3.13"]}, "is ['python3.12', 'python3.13'], and compiled wheels"),
        ({"CompatibleRuntimes": [{"Ref": "Runtime"}]}, "is [{'Ref': 'Runtime'}], and compiled wheels"),
        ({"CompatibleRuntimes": ["python3.13"]}, "CompatibleArchitectures of SharedCode is missing"),
        ({}, "CompatibleRuntimes of SharedCode is missing"),
    ],
)
def test_a_template_says_exactly_one_of_each(tmp_path: Path, properties: dict[str, Any], refusal: str) -> None:
    """Wheels for the wrong processor would be found at the first invocation only."""
    layer_template(tmp_path, **properties)
    assert refusal in said(tmp_path / "out", "--layer", "SharedCode", "--above", tmp_path)


def test_the_nearest_template_that_has_the_layer_decides(tmp_path: Path) -> None:
    """A clone below somebody's project has a template of its own, of other resources."""
    layer_template(tmp_path, CompatibleRuntimes=["python2.7"], CompatibleArchitectures=["arm64"])
    (tmp_path / "vendor/clone/layer").mkdir(parents=True)
    (tmp_path / "vendor/clone/template.yaml").write_text("Resources: {Other: {Type: 'AWS::SQS::Queue'}}")
    assert "'python2.7'" in said(tmp_path / "out", "--layer", "SharedCode", "--above", tmp_path / "vendor/clone/layer")


def test_a_template_of_another_name_has_to_be_given(tmp_path: Path) -> None:
    """Otherwise the message says how."""
    template = layer_template(tmp_path, "stack.json", CompatibleRuntimes=["python2.7"], CompatibleArchitectures=["x"])
    arguments = (tmp_path / "out", "--layer", "SharedCode", "--above", tmp_path)
    assert "SAM_TEMPLATE=<file> in the environment names another" in said(*arguments)
    assert "'python2.7'" in said(*arguments, "--template", template)


@pytest.mark.parametrize("theirs", ["app.py", "python/shared.py", "python/lib/orders.py", "certs/ca.pem"])
def test_the_build_writes_into_no_folder_that_is_somebodys(tmp_path: Path, theirs: str) -> None:
    """A layer that was made by hand has a folder `python` too, and its modules may have no copy elsewhere."""
    (tmp_path / theirs).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / theirs).write_text("theirs")
    refusal = said(tmp_path, "--runtime", "python3.13", "--arch", "arm64")
    assert f"holds {'/'.join(theirs.split('/')[:2])}, which no build put there" in refusal
    assert (tmp_path / theirs).read_text() == "theirs"


def earlier_build(out: Path) -> Path:
    """What a build leaves, of one package."""
    build._emptied(out)
    (out / "python/sqlalchemy").mkdir(parents=True)
    build._mark(out, build._entries(out))
    return out


def test_an_earlier_layer_is_emptied(tmp_path: Path) -> None:
    """With the bytecode that an import of it may have left."""
    out = earlier_build(tmp_path / "out")
    (out / "python/__pycache__").mkdir()
    build._emptied(out)
    assert [path.name for path in out.iterdir()] == [build.MARK]


@pytest.mark.parametrize("added", ["python/shared.py", "certs/ca.pem", "python/.env"])
def test_what_was_added_to_an_earlier_layer_is_somebodys(tmp_path: Path, added: str) -> None:
    """Nothing is removed, not even what the build made."""
    out = earlier_build(tmp_path / "out")
    (out / added).parent.mkdir(exist_ok=True)
    (out / added).touch()
    with pytest.raises(build.BuildError, match=f"holds {added}, which no build put there"):
        build._emptied(out)
    assert (out / added).is_file()
    assert (out / "python/sqlalchemy").is_dir()


def test_a_build_that_failed_half_way_is_no_obstacle_to_the_next(tmp_path: Path) -> None:
    """What is in the folders is its own, whatever it was able to install."""
    out = build._emptied(tmp_path / "out")
    (out / "python/half").mkdir(parents=True)
    build._emptied(out)
    assert not (out / "python").exists()


def test_a_python_of_another_version_does_not_compile(tmp_path: Path) -> None:
    """Its bytecode would be a bad magic number in Lambda."""
    with pytest.raises(build.BuildError, match=r"bytecode for Lambda's python3\.1 takes a Python 3\.1, and"):
        build.interpreter("3.1", "python3")


def test_a_python_that_is_not_to_be_had_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody offers this release any more, so it can be neither found nor fetched."""
    monkeypatch.setenv("PATH", ENVIRONMENT["PATH"])  # uv's
    assert build.interpreter("3.1") is None


def test_without_its_python_a_layer_keeps_its_sources_and_says_what_that_costs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Another Python's bytecode would not be loaded, and none at all is slow but right."""
    (tmp_path / "m.py").write_text("x = 1\n")
    build._slim(tmp_path, None, "python3.14")
    assert [path.name for path in tmp_path.iterdir()] == ["m.py"]
    assert "no python3.14 was found here to compile for" in capfd.readouterr().out


def test_a_property_of_the_template_may_stand_in_globals(tmp_path: Path) -> None:
    """As SAM reads it; its tags are no obstacle, and what they stand for is not guessed."""
    (tmp_path / "template.yaml").write_text(
        "Globals:\n  Function: {Runtime: python3.13, Timeout: !Ref Seconds}\n"
        "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties: {Handler: a.b, Role: !GetAtt R.Arn}\n"
    )
    asked = run("layer/template.py", "F", "Runtime", "Handler", "--above", tmp_path)
    assert asked.stdout == "python3.13\na.b\n"
    unknown = run("layer/template.py", "F", "Role", "--above", tmp_path)
    assert unknown.returncode != 0
    assert "Role of F is decided by CloudFormation, and the build has to know it" in unknown.stderr


def test_a_statement_of_metadata_is_true_or_false(tmp_path: Path) -> None:
    """Anything else is not taken for either."""
    (tmp_path / "template.yaml").write_text(
        "Resources: {F: {Type: 'AWS::Serverless::Function', Metadata: {HandlerInLayer: maybe}}}"
    )
    asked = run("layer/template.py", "F", "--states", "HandlerInLayer", "--above", tmp_path)
    assert asked.returncode != 0
    assert "HandlerInLayer of F, in its Metadata, is 'maybe', and not true or false" in asked.stderr
