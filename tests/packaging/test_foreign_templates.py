"""The layer in somebody else's template, added by the lines of docs/start/layer.md and built by `sam build`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from samcli.yamlhelper import yaml_dump, yaml_parse

from .scripts import ARCH, ENVIRONMENT, MAKE, ROOT, RUNTIME

pytestmark = pytest.mark.slow

TEMPLATES = Path(__file__).parent / "foreign"
PAGE = (ROOT / "docs/start/layer.md").read_text()
READY_MADE, BUILT_BY_SAM = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LAYERS = "layers/data-access"
CLONE = "vendor/serverless-data-access"
WHAT_A_LAYER_IS_BUILT_FROM = ("layer", "src", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")

CALL = """
import importlib, json, sys
sys.path[:0] = sys.argv[2:]
module, _, name = sys.argv[1].rpartition(".")
print(json.dumps(getattr(importlib.import_module(module), name)({}, None)))
"""


def with_layer(template: Path, lines: str, name: str) -> None:
    """Add the page's ``lines`` to a template, the layer called ``name``, for this machine's runtime and processor."""
    lines = re.sub(r"\bDataAccess\b", name, lines).replace("python3.13", RUNTIME).replace("[arm64]", f"[{ARCH}]")
    added, content = yaml_parse(lines), yaml_parse(template.read_text())
    shared = content.setdefault("Globals", {}).setdefault("Function", {})
    shared |= added["Globals"]["Function"] | {"Runtime": RUNTIME, "Architectures": [ARCH]}
    content["Resources"] |= added["Resources"]
    template.write_text(yaml_dump(content))


def sam_build(project: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In the project's folder, as its owner would."""
    return subprocess.run(
        [shutil.which("sam", path=ENVIRONMENT["PATH"]) or "sam", "build", *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=project,
        env=ENVIRONMENT | environment,
    )


def make_layer(out: Path) -> None:
    """The verb, without its setting up of the environment that this test runs in."""
    told = (f"RUNTIME={RUNTIME}", f"ARCH={ARCH}", f"OUT={out}", f"BIN={Path(sys.executable).parent}")
    command = [MAKE, "--old-file=.venv/ready", "layer", *told]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


def called(handler: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    """The handler, with the function's folder and the layer's before the standard library, and nothing else."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", CALL, handler, *map(str, folders)],
        check=False,
        capture_output=True,
        text=True,
    )


def works(handler: str, task: Path, layer: Path) -> bool:
    """Whether the function runs on the layer's db and SQLAlchemy."""
    done = called(handler, task, layer)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return Path(answer["db"]).is_relative_to(layer) and answer["sqlalchemy"] == version("sqlalchemy")


def project(folder: Path, name: str) -> Path:
    """A copy of somebody's project."""
    return shutil.copytree(TEMPLATES / name, folder / name)


def clone_into(folder: Path) -> None:
    """What of this repository a layer is built from, as a submodule would bring it."""
    for name in WHAT_A_LAYER_IS_BUILT_FROM:
        source, target = ROOT / name, folder / CLONE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def test_a_layer_made_beforehand_is_taken_as_it_is(tmp_path: Path) -> None:
    """By functions that SAM builds itself; and one that brings an older SQLAlchemy is told which, and what it hides."""
    shop = project(tmp_path, "notes")
    older = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(shop / "services/legacy")]
    subprocess.run([*older, "sqlalchemy==2.0.36"], check=True, env=ENVIRONMENT)
    with_layer(shop / "template.yaml", READY_MADE, "SharedPersistence")
    make_layer(shop / LAYERS)
    done = sam_build(shop)
    assert done.returncode == 0, done.stderr

    artifacts, layer = shop / ".aws-sam/build", shop / LAYERS / "python"
    packed = yaml_parse((artifacts / "template.yaml").read_text())["Resources"]["SharedPersistence"]["Properties"]
    assert (artifacts / packed["ContentUri"]).resolve() == (shop / LAYERS).resolve()
    assert works("app.lambda_handler", artifacts / "Notes", layer)
    refused = called("app.lambda_handler", artifacts / "Legacy", layer).stderr.splitlines()[-1]
    assert f"sqlalchemy 2.0.36 is loaded from {artifacts / 'Legacy'}, which hides " in refused
    assert f"{version('sqlalchemy')} in {layer}" in refused


def test_a_layer_is_built_by_sam_beside_functions_with_a_makefile_and_without(tmp_path: Path) -> None:
    """Under a logical id that this repository has never heard of."""
    shop = project(tmp_path, "jobs")
    clone_into(shop)
    with_layer(shop / "template.yml", BUILT_BY_SAM, "Layer")
    done = sam_build(shop)
    assert done.returncode == 0, done.stderr
    artifacts = shop / ".aws-sam/build"
    assert works("shop.api.handler", artifacts / "ApiFunction", artifacts / "Layer/python")
    assert works("nightly.run", artifacts / "NightlyFunction", artifacts / "Layer/python")


def test_a_template_of_another_name_in_another_folder_is_named(tmp_path: Path) -> None:
    """Without, the build says how; with, it builds."""
    shop = project(tmp_path, "pipeline")
    clone_into(shop / "infra")
    with_layer(shop / "infra/stack.yaml", BUILT_BY_SAM, "DbForSteps")
    options = ("--template", "infra/stack.yaml")
    refused = sam_build(shop, *options)
    assert refused.returncode != 0
    assert "no resource DbForSteps in a template.yaml or template.yml or template.json" in refused.stderr
    done = sam_build(shop, *options, SAM_TEMPLATE=str(shop / "infra/stack.yaml"))
    assert done.returncode == 0, done.stderr
    artifacts = shop / ".aws-sam/build"
    assert works("main.handler", artifacts / "LoadStep", artifacts / "DbForSteps/python")
