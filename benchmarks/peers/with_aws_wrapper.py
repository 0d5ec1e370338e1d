"""SQLAlchemy over AWS's own driver wrapper."""

from __future__ import annotations

import atexit

from sqlalchemy import create_engine

from .with_sqlalchemy import SqlAlchemy


class AwsWrapper(SqlAlchemy):
    """The URL of the wrapper's dialect, with the plugins that its document names.

    https://github.com/aws/aws-advanced-python-wrapper/blob/main/docs/using-the-python-wrapper/SqlAlchemySupport.md
    Only ``wrapper_dialect`` is another: that of a PostgreSQL that is not Aurora.
    """

    name = "AWS wrapper"
    packages = (*SqlAlchemy.packages, "aws-advanced-python-wrapper")
    driver = "postgresql+aws_wrapper_psycopg"

    def __init__(self, url: str) -> None:
        # Here, for the import alone opens a socket and starts threads: only in the process that is measured.
        from aws_advanced_python_wrapper import release_resources

        super().__init__(url)
        # It ends the wrapper's threads, and takes most of a second: once a process.
        atexit.register(release_resources)

    def open(self) -> None:
        self.engine = create_engine(
            f"{self.dialect_url}&wrapper_dialect=pg&wrapper_plugins=failover,host_monitoring_v2"
        )
