"""The pytest plugin of a run of SQLAlchemy's repository tests: makes the dialects known, and chooses the tests."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import registry

from db.wire import psycopg_dialect

ServerlessDialect: Any = psycopg_dialect.ServerlessDialect
registry.register("postgresql.serverless_async", psycopg_dialect.__name__, "AsyncServerlessDialect")

# What SQLAlchemy adds to the names of classes that it runs on each database: the dialect and the server's version.
DIALECT = r"_postgresql\+\w+"
# What it runs so is marked. What connections and transactions go through is more than that.
MARK = "backend"
UNMARKED = re.compile(
    r"test/(engine/|ext/asyncio/|orm/test_(transaction|session|unitofwork|unitofworkv2|events|bind)\.py)"
)
# Of no connection: a pool of stand-ins that sleeps, URLs, and 1,228 operators for each of six types of ranges.
NOT_RUN = re.compile(r"test/engine/test_(pool|parseconnect|processors)\.py|::(?!\w*Multi)\w+RangeRoundTripTest::")


def name_of(item: pytest.Item) -> str:
    """Its node's, without the dialect's name and the server's version."""
    return re.sub(DIALECT, "", item.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # After SQLAlchemy's plugin has made the tests of each class: a command line cannot name them.
    listed = os.environ.get("REPOSITORY_TESTS")
    named = None if listed is None else set(Path(listed).read_text().splitlines())

    def is_chosen(item: pytest.Item) -> bool:
        name = name_of(item)
        if named is not None:
            return name in named
        return not NOT_RUN.search(name) and bool(item.get_closest_marker(MARK) or UNMARKED.match(name))

    chosen = [is_chosen(item) for item in items]
    config.hook.pytest_deselected(items=[item for item, runs in zip(items, chosen, strict=True) if not runs])
    items[:] = [item for item, runs in zip(items, chosen, strict=True) if runs]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    # After SQLAlchemy's plugin has been configured, and before it connects.
    import sqlalchemy.dialects.postgresql.provision  # noqa: F401 - found by the stock dialect's package name only
    from sqlalchemy.testing.engines import ReconnectFixture

    connect = ServerlessDialect.connect

    def connect_and_tell(dialect: Any, *cargs: Any, **cparams: Any) -> Any:
        # A lost server is simulated by a stand-in for the driver's module, which the sync dialect does not call.
        connection = connect(dialect, *cargs, **cparams)
        if isinstance(module := dialect.loaded_dbapi, ReconnectFixture):
            if module.is_stopped:
                connection.close()
                connection.execute("SELECT 1")  # raises
            module.connections.append(connection)
        return connection

    ServerlessDialect.connect = connect_and_tell
