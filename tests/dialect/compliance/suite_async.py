"""The part of SQLAlchemy's suite in which a connection, a cursor or a transaction has a say: no compiler, no types."""

from __future__ import annotations

from sqlalchemy.testing.suite.test_dialect import *  # noqa: F403 - how SQLAlchemy wants it: README.dialects.rst
from sqlalchemy.testing.suite.test_insert import *  # noqa: F403
from sqlalchemy.testing.suite.test_results import *  # noqa: F403
from sqlalchemy.testing.suite.test_rowcount import *  # noqa: F403
from sqlalchemy.testing.suite.test_sequence import *  # noqa: F403
from sqlalchemy.testing.suite.test_update_delete import *  # noqa: F403
