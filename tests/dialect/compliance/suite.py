"""All of SQLAlchemy's suite for dialects."""

from __future__ import annotations

from sqlalchemy.testing.suite import *  # noqa: F403 - how SQLAlchemy wants it: README.dialects.rst
