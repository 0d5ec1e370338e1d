"""The script that makes the layer smaller: what it takes away, what it leaves, and what it refuses."""

from __future__ import annotations

import inspect
import marshal
import os
import subprocess
import sys
import types
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

FOR_TYPE_CHECKERS = """
from __future__ import annotations
import sys
import typing
from typing import TYPE_CHECKING, overload
from library import overload as dispatched
if TYPE_CHECKING:
    a = 1
elif sys.version_info < (3, 0):
    b = 1
else:
    c = 1
if not typing.TYPE_CHECKING:
    d = 1
if not hasattr(typing, "Any"):
    e = 1
@typing.overload
def f(x: int) -> int: ...
@overload
def f(x: str) -> str: ...
def f(x: int | str): ...
@overload
def stub(x: int) -> int: ...
@dispatched
def g(x): ...
def g(x: int): ...
def generator():
    if TYPE_CHECKING:
        yield
"""


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


def test_what_is_for_type_checkers_or_another_python_is_not_in_the_bytecode() -> None:
    """What a program may notice stays: annotations, a stub on its own, others' decorators, a generator."""
    code = marshal.loads(slim.compiled(FOR_TYPE_CHECKERS.encode(), "m.py")[16:])  # noqa: S302 - made by this test
    assert {"a", "b", "c", "d", "e"} & {*code.co_names} == {"c", "d"}
    defined = [const.co_name for const in code.co_consts if isinstance(const, types.CodeType)]
    assert (defined.count("f"), defined.count("stub"), defined.count("generator")) == (1, 1, 1)
    assert "dispatched" in code.co_names
    assert ("x", "int | str") in code.co_consts
    (generator,) = (one for one in code.co_consts if isinstance(one, types.CodeType) and one.co_name == "generator")
    assert generator.co_flags & inspect.CO_GENERATOR


def test_a_module_that_is_compiled_to_a_library_is_not_there_twice(tmp_path: Path) -> None:
    """Python looks for the library first."""
    for name in ("m.py", "m.cpython-313-x86_64-linux-gnu.so", "n.py"):
        (tmp_path / name).touch()
    assert slim.shadowed(tmp_path) == [tmp_path / "m.py"]


def test_metadata_keeps_its_fields() -> None:
    """Of a distribution, the README goes."""
    kept = slim.without_description(b"Name: a\nVersion: 1\nLicense-File: L\n\n# A\n\nText\n")
    assert kept == b"Name: a\nVersion: 1\nLicense-File: L\n"


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
    assert [name for name in slim.UNUSED_WITHOUT if not any(installed.glob(name))] == []
