"""Passwords that change while the process lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

import db
from db.settings import Settings

from .conftest import Use, backend_pid

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.plugin import Database
    from devkit.servers.aws import LocalAws
    from devkit.servers.postgres import Postgres


def rotate(postgres: Postgres, database: Database, password: str) -> None:
    postgres.execute(f"ALTER ROLE {database.app} PASSWORD '{password}'")


@pytest.fixture
def by_secret(database: Database, secret: Callable[..., str], use: Use) -> Callable[[str], str]:
    """Puts the role app's password into its secret, in the rotation templates' shape."""

    def put(password: str) -> str:
        return secret(
            "orders/app",
            {
                "engine": "postgres",
                "host": database.host,
                "port": database.port,
                "dbname": database.name,
                "username": database.app,
                "password": password,
            },
        )

    put(database.app_password)
    db.configure(Settings(secret_id="orders/app"))
    return put


def test_a_secret_is_fetched_once_for_many_connects(by_secret: Any, local_aws: LocalAws) -> None:
    """Not on import, not on configure, not for each connection."""
    before = local_aws.count("GetSecretValue")
    for _ in range(3):
        backend_pid()
        db.dispose()
    assert local_aws.count("GetSecretValue") - before == 1


def test_a_password_that_changed_is_fetched_again(
    by_secret: Callable[[str], str], database: Database, postgres: Postgres, local_aws: LocalAws
) -> None:
    """The server's refusal is the sign; the handler notices nothing."""
    backend_pid()
    db.dispose()
    rotate(postgres, database, "changed")
    by_secret("changed")
    before = local_aws.count("GetSecretValue")
    backend_pid()
    assert local_aws.count("GetSecretValue") - before == 1


def test_a_connection_that_works_survives_the_rotation(
    by_secret: Callable[[str], str], database: Database, postgres: Postgres
) -> None:
    """Nothing is dropped because a secret changed."""
    pid = backend_pid()
    rotate(postgres, database, "changed")
    by_secret("changed")
    assert backend_pid() == pid


def test_a_missing_secret_is_the_packages_own_error(by_secret: Any, local_aws: LocalAws) -> None:
    """Named, and not wrapped in an error of the driver's."""
    local_aws.delete_secret("orders/app")
    with pytest.raises(db.CredentialsError, match="'orders/app'"), db.begin() as tx:
        tx.execute(text("SELECT 1"))
