"""The script that makes the layer smaller: what it takes away, what it leaves, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy

from .scripts import UNCHECKED_HASH, imported

slim = imported("layer/slim.py")

DOCUMENTED = '''"""Doc."""
from __future__ import annotations
class A:
    """Doc."""
def f():
    """Doc."""
    assert False
'''
PARSER = "aws_lambda_powertools/utilities/parser"


def test_a_module_keeps_its_line_numbers_and_assertions(tmp_path: Path) -> None:
    """And its path in Lambda; only what is in its docstrings goes."""
    (tmp_path / "m.py").write_text(DOCUMENTED)
    slim.to_bytecode(tmp_path, "/opt/python")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pyc"]
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import m; print([m.__doc__, m.A.__doc__, m.f.__doc__]); m.f()"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.stdout == "['.', '.', '.']\n"
    assert 'File "/opt/python/m.py", line 7, in f' in done.stderr
    assert "AssertionError" in done.stderr


def test_db_keeps_its_sources_beside_the_bytecode(tmp_path: Path) -> None:
    """Another Python could not run the bytecode, and so could not say that the layer is for another runtime."""
    (tmp_path / "db").mkdir()
    (tmp_path / "db/__init__.py").write_text(DOCUMENTED)
    slim.to_bytecode(tmp_path, "/opt/python")
    assert (tmp_path / "db/__init__.py").read_text() == DOCUMENTED
    (compiled,) = tmp_path.glob("db/__pycache__/__init__.*.pyc")
    assert compiled.read_bytes()[4:8] == UNCHECKED_HASH


def test_the_installers_own_copy_is_never_written_into(tmp_path: Path) -> None:
    """An installer may give its cache's files a second name instead of a copy."""
    cached, installed = tmp_path / "cached", tmp_path / "installed"
    cached.write_bytes(b"whole")
    os.link(cached, installed)
    slim.replace(installed, b"slim")
    assert (cached.read_bytes(), installed.read_bytes()) == (b"whole", b"slim")


def test_what_is_no_library_is_not_cut() -> None:
    """A script that is called so would lose its end."""
    with pytest.raises(ValueError, match="not a 64-bit little-endian ELF file"):
        slim.without_symbols(b"INPUT(libpq.so.5)")


@pytest.mark.parametrize(("package", "stays"), [(None, False), ("pydantic", True), ("jwt", False)])
def test_powertools_parser_stays_where_pydantic_is(tmp_path: Path, package: str | None, stays: bool) -> None:
    """What takes a package is of no use without it, and was asked for with it."""
    for folder in (PARSER, *([package] if package else [])):
        (tmp_path / folder).mkdir(parents=True)
    slim.main(tmp_path, "/opt/python", bytecode=True)
    assert (tmp_path / PARSER).is_dir() is stays


def test_every_part_that_may_go_is_there_to_go() -> None:
    """A folder that a release renamed would stay in the layer unseen."""
    installed = Path(sqlalchemy.__file__).parents[1]
    assert [name for name in slim.UNUSED_WITHOUT if not (installed / name).is_dir()] == []
