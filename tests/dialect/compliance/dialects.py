"""The pytest plugin of a compliance run: makes both dialects known, and prepares the server for both alike."""

from __future__ import annotations

import pytest
from sqlalchemy.dialects import registry

from db.wire import asyncpg_dialect, psycopg_dialect

registry.register("postgresql.serverless_async", psycopg_dialect.__name__, "AsyncServerlessDialect")
registry.register("postgresql.serverless_asyncpg", asyncpg_dialect.__name__, "AsyncpgDialect")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    # After SQLAlchemy's plugin has been configured, and before it connects.
    import sqlalchemy.dialects.postgresql.provision  # noqa: F401 - found by the stock dialect's package name only
    from sqlalchemy.testing.provision import post_configure_engine

    # It would create extensions that the embedded server does not bring.
    post_configure_engine.for_db("postgresql")(lambda _url, _engine, _follower: None)
