"""What `sam build` puts into the layer: its makefile, run for this machine's processor, and all of it imported."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from uv import find_uv_bin

from .test_build import ROOT, UNCHECKED_HASH, make

if TYPE_CHECKING:
    from types import ModuleType

LAYER = {"aarch64": "DependenciesLayerArm64"}.get(platform.machine(), "DependenciesLayerX86")
# As Lambda counts them: its limit of "250 MB" is 262,144,000 bytes.
MOST_BYTES = 25 * 2**20

# The one interpreter that is to see it has nothing else: no site-packages, no user's, no variables.
IMPORT_ALL = """
import importlib, json, pkgutil, sys, warnings
warnings.simplefilter("ignore")
folder = sys.argv[1]
sys.path.insert(0, folder)
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
    *("'dnspython'", "'Shapely'", "'greenlet'"),
}


DOCUMENTED = '''"""Doc."""
from __future__ import annotations
class A:
    """Doc."""
def f():
    """Doc."""
    assert False
'''


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer's folder `python`, built once."""
    artifacts = tmp_path_factory.mktemp("layer")
    path = os.pathsep.join([str(Path(find_uv_bin()).parent), os.environ["PATH"]])
    # The whole environment: it says where this machine gets its packages from.
    done = make("layer", f"build-{LAYER}", artifacts, environment={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stderr
    return artifacts / "python"


def slim() -> ModuleType:
    """The script beside the makefile."""
    spec = importlib.util.spec_from_file_location("slim", ROOT / "layer" / "slim.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_everything_that_ships_can_be_imported(layer: Path) -> None:
    """From bytecode alone, but for what takes a package that the runtime or the user brings."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, str(layer)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seen, missing, wrapper, compiled, file = json.loads(done.stdout.splitlines()[-1])
    assert {name: why for name, why in missing.items() if not any(what in why for what in OPTIONAL)} == {}
    assert len(missing) < seen / 10
    assert (wrapper, compiled) == ("binary", True)
    assert Path(file).is_relative_to(layer)


def test_the_artifact_is_small(layer: Path) -> None:
    """The layer, and 1 MB of function beside it."""
    size = sum(path.stat().st_size for path in layer.rglob("*") if path.is_file())
    assert size + 2**20 <= MOST_BYTES


def test_the_makefile_refuses_a_layer_that_grew(layer: Path) -> None:
    """For the processor that no test here can run on, too."""
    makefile = (ROOT / "layer" / "Makefile").read_text()
    assert f"MOST_BYTES := {MOST_BYTES - 2**20}\n" in makefile
    assert "[ $$bytes -le $(MOST_BYTES) ]" in makefile


def test_the_layer_is_bytecode_that_is_never_stale(layer: Path) -> None:
    """Without sources and stubs, and without the folders that ordinary bytecode would be in."""
    assert not [path for pattern in ("*.py", "*.pyi", "__pycache__") for path in layer.rglob(pattern)]
    compiled = list(layer.rglob("*.pyc"))
    assert len(compiled) > 300
    assert {path.read_bytes()[4:8] for path in compiled} == {UNCHECKED_HASH}


def test_versions_can_still_be_read(layer: Path) -> None:
    """psycopg and SQLAlchemy ask for theirs, and a scanner for all."""
    names = {path.name.partition("-")[0] for path in layer.glob("*.dist-info") if (path / "METADATA").is_file()}
    assert {"psycopg", "psycopg_binary", "sqlalchemy", "alembic", "aws_lambda_powertools"} <= names


def test_a_module_keeps_its_line_numbers_and_assertions(tmp_path: Path) -> None:
    """And its path in Lambda; only what is in its docstrings goes."""
    (tmp_path / "m.py").write_text(DOCUMENTED)
    slim().to_bytecode(tmp_path, "/opt/python")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pyc"]
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import m; print([m.__doc__, m.A.__doc__, m.f.__doc__]); m.f()"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.stdout == "['.', '.', '.']\n"
    assert 'File "/opt/python/m.py", line 7, in f' in done.stderr
    assert "AssertionError" in done.stderr


def test_the_installers_own_copy_is_never_written_into(tmp_path: Path) -> None:
    """An installer may give its cache's files a second name instead of a copy."""
    cached, installed = tmp_path / "cached", tmp_path / "installed"
    cached.write_bytes(b"whole")
    os.link(cached, installed)
    slim().replace(installed, b"slim")
    assert (cached.read_bytes(), installed.read_bytes()) == (b"whole", b"slim")


def test_what_is_no_library_is_not_cut() -> None:
    """A script that is called so would lose its end."""
    with pytest.raises(ValueError, match="not a 64-bit little-endian ELF file"):
        slim().without_symbols(b"INPUT(libpq.so.5)")
