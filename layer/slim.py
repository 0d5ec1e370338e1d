"""Makes the installed dependencies smaller, and leaves what they do as it is: ``python slim.py <folder> <prefix>``.

Run by the Python that the bytecode is for, after the wheels were unpacked into ``folder``; with ``--sources`` there is
no bytecode, and any Python serves. ``prefix`` is where the folder will be in Lambda. What goes, and why, is in
docs/start/packaging.md; tests/packaging imports all that stays.
"""

import ast
import marshal
import py_compile
import shutil
import struct
import sys
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path

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
    "greenlet/tests",
    # What only tests of SQLAlchemy import, and its dialect for tests without a server.
    *("sqlalchemy/dialects/postgresql/provision.py", "sqlalchemy/dialects/sqlite"),
)
# What cannot work without one of these packages, and stays where one of them was installed beside it.
UNUSED_WITHOUT = {
    "aws_lambda_powertools/utilities/parser": ("pydantic",),
    "aws_lambda_powertools/event_handler/openapi/swagger_ui": ("pydantic",),
    "aws_lambda_powertools/utilities/data_masking": ("aws_encryption_sdk", "jsonpath_ng"),
    "aws_lambda_powertools/utilities/auth_alpha": ("jwt",),
    "sqlalchemy/dialects/mssql": ("aioodbc", "mssql_python", "pymssql", "pyodbc"),
    "sqlalchemy/dialects/mysql": ("MySQLdb", "aiomysql", "asyncmy", "cymysql", "mariadb", "mysql", "pymysql", "pyodbc"),
    "sqlalchemy/dialects/oracle": ("cx_Oracle", "oracledb"),
}
# db keeps its sources beside the bytecode, so that a traceback shows its lines, and so that its own check runs and says
# which runtime a layer is for, where that is another's.
SOURCES_STAY = ("db",)
# Type stubs and sources of what is compiled, and the lists by which pip would uninstall.
UNUSED_FILES = ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "*.cpp", "*.hpp", "RECORD")

# https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html, for the 64-bit little-endian of both processors.
_ELF64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
_PROGRAM_HEADERS_AT, _SECTION_HEADERS_AT, _COUNTS_AT = 32, 40, 54
_OFFSET_IN_PROGRAM_HEADER = 8


def main(folder: Path, prefix: str, *, bytecode: bool) -> None:
    for name in (*UNUSED, *unused_here(folder)):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for pattern in UNUSED_FILES:
        for path in folder.rglob(pattern):
            path.unlink()
    for path in (*folder.rglob("*.so"), *folder.rglob("*.so.*")):
        replace(path, without_symbols(path.read_bytes()))
    if bytecode:
        to_bytecode(folder, prefix)


def unused_here(folder: Path) -> list[str]:
    """What none of the installed packages makes work."""
    return [name for name, needs in UNUSED_WITHOUT.items() if not any((folder / need).exists() for need in needs)]


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


def to_bytecode(folder: Path, prefix: str) -> None:
    """Replace each module by its bytecode, beside where its source was, which is where Python looks without one.

    The packages of ``SOURCES_STAY`` get theirs in ``__pycache__``, where Python looks with one.
    """
    for path in folder.rglob("__pycache__"):
        shutil.rmtree(path)
    for source in folder.rglob("*.py"):
        place = str(Path(prefix) / source.relative_to(folder))
        if source.relative_to(folder).parts[0] in SOURCES_STAY:
            py_compile.compile(str(source), dfile=place, doraise=True, invalidation_mode=_UNCHECKED)
        else:
            replace(source.with_suffix(".pyc"), compiled(source.read_bytes(), place))
            source.unlink()


def compiled(source: bytes, place: str) -> bytes:
    """The contents of a .pyc that is never compared with a source (PEP 552), each docstring a dot.

    Not gone: SQLAlchemy extends some as it loads, and asserts that they are there. And not ``python -OO``, which
    drops assertions as well.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str()) as docstring), *_]:
                    docstring.value = "."
    code = compile(tree, place, "exec", dont_inherit=True)
    return MAGIC_NUMBER + UNCHECKED_HASH + source_hash(source) + marshal.dumps(code)


def replace(path: Path, contents: bytes) -> None:
    """Write a file anew. Never into the one that is there: it may be the installer's cache by another name."""
    path.unlink(missing_ok=True)
    path.write_bytes(contents)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], bytecode="--sources" not in sys.argv)
