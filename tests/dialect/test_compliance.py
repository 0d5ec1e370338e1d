"""SQLAlchemy's own suite for dialects, on this one and on the stock one beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from devkit.servers.postgres import Postgres

FOLDER = Path(__file__).parent / "compliance"
# Of a fixed list, and early: what any other plugin of the project does would be done to SQLAlchemy's tests.
PLUGINS = ("-p", "sqlalchemy.testing.plugin.pytestplugin", "-p", "dialects", "-p", "no:cacheprovider")
WAIT_S = 900


def start(postgres: Postgres, dialect: str, suite: str, report: Path) -> subprocess.Popen[str]:
    """A run of its own process, which has to be a pytest of its own: the suite brings its own plugin and options."""
    database = f"compliance_{dialect.replace('+', '_')}_{report.stem}"
    postgres.create_database(database, owner=postgres.superuser)
    for schema in ("test_schema", "test_schema_2"):
        postgres.execute(f"CREATE SCHEMA {schema}", database=database)
    plain = "ssl" if dialect.endswith("+asyncpg") else "sslmode"  # asyncpg's own word for it
    url = f"{dialect}://{postgres.superuser}@{postgres.host}:{postgres.port}/{database}?{plain}=disable"
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-c", "setup.cfg", "--rootdir", ".", *PLUGINS, "-q", "--tb=line",
         f"--junitxml={report}", "--dburi", url, suite],
        cwd=FOLDER,
        env=os.environ
        | {"PGPASSWORD": postgres.password, "PYTHONPATH": str(FOLDER), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def outcomes(report: Path) -> dict[str, str]:
    """How each test ended, by its name without the dialect's: passed, or the kind of what stands there instead."""
    ended = {}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        test = re.sub(r"_postgresql\+\w+", "", f"{case.get('classname')}.{case.get('name')}")
        ended[test] = case[0].tag if len(case) else "passed"
    return ended


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "stock", "suite", "at_least"),
    [
        ("postgresql+serverless", "postgresql+psycopg", "suite.py", 1800),
        ("postgresql+serverless_async", "postgresql+psycopg_async", "suite_async.py", 250),
        ("postgresql+serverless_asyncpg", "postgresql+asyncpg", "suite_async.py", 250),
    ],
)
def test_the_suite_passes_where_it_does_on_the_stock_dialect(
    ours: str, stock: str, suite: str, at_least: int, *, postgres: Postgres, tmp_path: Path
) -> None:
    """Test by test, and nothing fails on either."""
    reports = {dialect: tmp_path / f"{number}.xml" for number, dialect in enumerate((ours, stock))}
    runs = {dialect: start(postgres, dialect, suite, report) for dialect, report in reports.items()}
    said = {dialect: run.communicate(timeout=WAIT_S)[0] for dialect, run in runs.items()}
    assert {run.returncode for run in runs.values()} == {0}, "\n".join(text[-3000:] for text in said.values())
    assert outcomes(reports[ours]) == outcomes(reports[stock])
    assert Counter(outcomes(reports[ours]).values())["passed"] > at_least
