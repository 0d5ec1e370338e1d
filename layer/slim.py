"""Makes the installed dependencies smaller, and leaves what they do as it is: ``python slim.py <folder> <prefix>``.

Run by the Python that the bytecode is for, after the wheels were unpacked into ``folder``; with ``--sources`` there is
no bytecode, and any Python serves. ``prefix`` is where the folder will be in Lambda. What goes, and why, is in
docs/start/packaging.md; tests/packaging imports all that stays.

``python -X no_debug_ranges`` leaves out of the bytecode in which column an instruction stands. It is for a traceback to
underline, which takes the source; the line is in it all the same.
"""

from __future__ import annotations

import ast
import marshal
import operator
import py_compile
import shutil
import struct
import sys
import typing
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

UNCHECKED_HASH = (0b01).to_bytes(4, "little")  # a .pyc's flags
_UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH

UNUSED = (
    # For who works on a dependency, or with it on a laptop.
    *(
        "bin",
        "include",
        ".lock",
        "sqlalchemy/testing",
        "alembic/testing",
        "mako/testing",
        "alembic/templates",
        "mako/ext",
    ),
    *("greenlet/tests", "greenlet/platform", "sqlalchemy/dialects/type_migration_guidelines.txt"),
    # What only tests of SQLAlchemy import, and its dialect for tests without a server.
    *("sqlalchemy/dialects/postgresql/provision.py", "sqlalchemy/dialects/sqlite"),
    # What SQLAlchemy's own code is made with.
    "sqlalchemy/util/tool_support.py",
    # psycopg without psycopg_binary, which is in every layer; the system's libpq, which this takes, is not in Lambda.
    *("psycopg/pq/pq_ctypes.py", "psycopg/pq/_pq_ctypes.py", "psycopg/_py_transformer.py"),
)
# What cannot work without one of these packages, or serves none but them, and stays where one of them was installed.
UNUSED_WITHOUT = {
    # Half of this library is compiled for one processor, and the same in Python for any: Mako escapes HTML with it.
    "markupsafe/_speedups.*": ("jinja2",),
    "aws_lambda_powertools/utilities/parser": ("pydantic",),
    "aws_lambda_powertools/event_handler/openapi/swagger_ui": ("pydantic",),
    # What validates events and describes them by pydantic's models.
    "aws_lambda_powertools/event_handler/openapi/compat.py": ("pydantic",),
    "aws_lambda_powertools/event_handler/openapi/dependant.py": ("pydantic",),
    "aws_lambda_powertools/event_handler/openapi/encoders.py": ("pydantic",),
    "aws_lambda_powertools/event_handler/openapi/models.py": ("pydantic",),
    "aws_lambda_powertools/event_handler/openapi/params.py": ("pydantic",),
    "aws_lambda_powertools/event_handler/middlewares/openapi_validation.py": ("pydantic",),
    "aws_lambda_powertools/utilities/validation": ("fastjsonschema",),
    "aws_lambda_powertools/event_handler/middlewares/schema_validation.py": ("fastjsonschema",),
    "aws_lambda_powertools/utilities/idempotency/persistence/cache.py": ("redis",),
    "aws_lambda_powertools/utilities/idempotency/persistence/redis.py": ("redis",),
    "aws_lambda_powertools/utilities/kafka/deserializer/avro.py": ("avro",),
    "aws_lambda_powertools/utilities/kafka/deserializer/protobuf.py": ("google/protobuf",),
    "aws_lambda_powertools/utilities/data_masking": ("aws_encryption_sdk", "jsonpath_ng"),
    "aws_lambda_powertools/utilities/auth_alpha": ("jwt",),
    "aws_lambda_powertools/event_handler/openapi/schema_generator.py": ("pydantic",),
    "psycopg/_dns.py": ("dns",),
    "psycopg/types/shapely.py": ("shapely",),
    "sqlalchemy/connectors/aioodbc.py": ("aioodbc",),
    "sqlalchemy/connectors/pyodbc.py": ("aioodbc", "mssql_python", "pyodbc"),
    "sqlalchemy/dialects/mssql": ("aioodbc", "mssql_python", "pymssql", "pyodbc"),
    "sqlalchemy/dialects/mysql": ("MySQLdb", "aiomysql", "asyncmy", "cymysql", "mariadb", "mysql", "pymysql", "pyodbc"),
    "sqlalchemy/dialects/oracle": ("cx_Oracle", "oracledb"),
}
# Below Lambda's folder for layers. db keeps its sources beside the bytecode there, so that its own check runs and says
# which runtime a layer is for, where that is another's. A function's own db is built with the function.
SOURCES_STAY = ("/opt/python/db/",)
# Type stubs and sources of what is compiled, and the lists by which pip would uninstall.
UNUSED_FILES = ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "*.cpp", "*.hpp", "RECORD")

# https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html, for the 64-bit little-endian of both processors.
_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
_PROGRAM_HEADERS_AT, _SECTION_HEADERS_AT, _COUNTS_AT = 32, 40, 54
_OFFSET_IN_PROGRAM_HEADER = 8


def main(folder: Path, prefix: str, *, bytecode: bool) -> None:
    for path in [path for name in (*UNUSED, *unused_here(folder)) for path in folder.glob(name)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in shadowed(folder):
        path.unlink()
    for pattern in UNUSED_FILES:
        for path in folder.rglob(pattern):
            path.unlink()
    for path in (*folder.rglob("*.so"), *folder.rglob("*.so.*")):
        replace(path, without_symbols(path.read_bytes()))
    for path in folder.glob("*.dist-info/METADATA"):
        replace(path, without_description(path.read_bytes()))
    if bytecode:
        to_bytecode(folder, prefix)


def unused_here(folder: Path) -> list[str]:
    """What none of the installed packages makes work."""
    return [name for name, needs in UNUSED_WITHOUT.items() if not any((folder / need).exists() for need in needs)]


def shadowed(folder: Path) -> list[Path]:
    """The sources that were compiled to a library beside them: Python looks for that first."""
    libraries = (library.with_name(library.name.split(".")[0] + ".py") for library in folder.rglob("*.cpython-*.so"))
    return [source for source in libraries if source.exists()]


def without_symbols(library: bytes) -> bytes:
    """``library``, an ELF file, without what lies behind its last segment: debug information and section headers.

    The loader maps segments and reads nothing else, so this needs no binutils for the other processor. SQLAlchemy's
    wheels carry 9 MB of it.
    """
    if not library.startswith(_ELF64_LITTLE_ENDIAN):
        raise ValueError("not a 64-bit little-endian ELF file")
    (headers_at,) = struct.unpack_from("<Q", library, _PROGRAM_HEADERS_AT)
    size, count = struct.unpack_from("<HH", library, _COUNTS_AT)
    end = headers_at + size * count
    for at in range(headers_at, end, size):
        offset, _, _, in_file = struct.unpack_from("<QQQQ", library, at + _OFFSET_IN_PROGRAM_HEADER)
        end = max(end, offset + in_file)
    slim = bytearray(library[:end])
    struct.pack_into("<Q", slim, _SECTION_HEADERS_AT, 0)
    struct.pack_into("<HHH", slim, _COUNTS_AT + 4, 0, 0, 0)  # size and number of section headers, index of their names
    return bytes(slim)


def without_description(metadata: bytes) -> bytes:
    """Name, version, licence and requirements, without the README that follows them."""
    fields, _, _ = metadata.partition(b"\n\n")
    return fields + b"\n"


def to_bytecode(folder: Path, prefix: str) -> None:
    """Replace each module by its bytecode, beside where its source was, which is where Python looks without one.

    What is in ``SOURCES_STAY`` gets its own in ``__pycache__``, where Python looks with one.
    """
    for path in folder.rglob("__pycache__"):
        shutil.rmtree(path)
    for source in folder.rglob("*.py"):
        place = str(Path(prefix) / source.relative_to(folder))
        if place.startswith(SOURCES_STAY):
            py_compile.compile(str(source), dfile=place, doraise=True, invalidation_mode=_UNCHECKED)
        else:
            replace(source.with_suffix(".pyc"), compiled(source.read_bytes(), place))
            source.unlink()


def compiled(source: bytes, place: str) -> bytes:
    """The contents of a .pyc that is never compared with a source (PEP 552), without what only a reader reads."""
    code = compile(_Slim().of(ast.parse(source)), place, "exec", dont_inherit=True)
    return MAGIC_NUMBER + UNCHECKED_HASH + source_hash(source) + marshal.dumps(code)


class _Slim:
    """Takes out of a module what its docstrings say, and what is written for type checkers alone.

    A docstring becomes a dot, and is not gone: SQLAlchemy extends some as it loads, and asserts that they are there.
    And this is not ``python -OO``, which drops assertions as well. Annotations stay, for frameworks read them.
    It looks at statements alone, which are a tenth of what a module consists of.
    """

    def of(self, module: ast.Module) -> ast.Module:
        self._overload = set(_names_of_overload(module))
        self._slim(module)
        return module

    def _slim(self, node: ast.AST) -> None:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _say_nothing(node.body)
            node.body = self._without_signatures(node.body)
        for owner, name, block in _blocks(node):
            setattr(owner, name, [kept for statement in block for kept in self._kept(statement)])

    def _without_signatures(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """``typing.overload``: a signature that the function of this name, further down, takes the place of."""
        functions = [found for found in body if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef)]
        signatures = [one for one in functions if any(ast.unparse(by) in self._overload for by in one.decorator_list)]
        implemented = {function.name for function in functions if function not in signatures}
        gone = [signature for signature in signatures if signature.name in implemented]
        return [statement for statement in body if statement not in gone]

    def _kept(self, statement: ast.stmt) -> list[ast.stmt]:
        """Of an ``if`` whose outcome is known one branch, unless the other one makes its function another one.

        That is ``if TYPE_CHECKING:``, a comparison with ``sys.version_info``, and what this Python's ``typing`` has.
        """
        self._slim(statement)
        known = _known(statement.test) if isinstance(statement, ast.If) else None
        if known is None or not isinstance(statement, ast.If):
            return [statement]
        stays, goes = (statement.body, statement.orelse) if known else (statement.orelse, statement.body)
        if any(isinstance(found, _MAKE_A_FUNCTION_ANOTHER) for one in goes for found in ast.walk(one)):
            return [statement]
        return stays or [ast.copy_location(ast.Pass(), statement)]


def _blocks(node: ast.AST) -> Iterator[tuple[ast.AST, str, list[ast.stmt]]]:
    """The lists of statements that a statement has, each with where it stands."""
    for owner in (node, *getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        for name in ("body", "orelse", "finalbody"):
            if block := getattr(owner, name, None):
                yield owner, name, block


_COMPARISONS = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
_MAKE_A_FUNCTION_ANOTHER = (ast.Yield, ast.YieldFrom, ast.Global, ast.Nonlocal)


def _known(test: ast.expr) -> bool | None:
    """What a condition always is in Lambda, for this bytecode; None where that is not known."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return False
        case ast.Compare(
            left=ast.Attribute(value=ast.Name(id="sys"), attr="version_info"),
            ops=[op],
            comparators=[ast.Tuple() as than],
        ) if type(op) in _COMPARISONS:
            return bool(_COMPARISONS[type(op)](sys.version_info, ast.literal_eval(than)))
        case ast.Call(func=ast.Name(id="hasattr"), args=[ast.Name(id="typing"), ast.Constant(value=str(name))]):
            return hasattr(typing, name)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            known = _known(inner)
            return None if known is None else not known
    return None


def _say_nothing(body: list[ast.stmt]) -> None:
    match body:
        case [ast.Expr(value=ast.Constant(value=str()) as docstring), *_]:
            docstring.value = "."


def _names_of_overload(node: ast.AST) -> Iterator[str]:
    """How a module calls typing's: another library may have a decorator of this name."""
    for _, _, block in _blocks(node):
        for statement in block:
            match statement:
                case ast.ImportFrom(module="typing" | "typing_extensions", names=names):
                    yield from (name.asname or name.name for name in names if name.name == "overload")
                case ast.Import(names=names):
                    modules = (name.asname or name.name for name in names if name.name.startswith("typing"))
                    yield from (f"{module}.overload" for module in modules)
                case _:
                    yield from _names_of_overload(statement)


def replace(path: Path, contents: bytes) -> None:
    """Write a file anew. Never into the one that is there: it may be the installer's cache by another name."""
    path.unlink(missing_ok=True)
    path.write_bytes(contents)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], bytecode="--sources" not in sys.argv)
