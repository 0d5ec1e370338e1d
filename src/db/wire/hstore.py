"""PostgreSQL's type hstore, whose number is another in each database: told by a look-up, or done without.

Without the number, psycopg hands over an hstore as text, which SQLAlchemy reads. It does so with an array of them too,
which SQLAlchemy takes for a list already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import Format
from psycopg.types import TypeInfo
from sqlalchemy import TypeDecorator
from sqlalchemy.dialects.postgresql import HSTORE
from sqlalchemy.dialects.postgresql._psycopg_common import _PsycopgARRAY

from db.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Dialect

# In whatever schema: psycopg sends and knows a value by the type's number, and where each transaction sets the search
# path for itself there is none yet. A table of that name would be a type too, but no base type.
_LOOK_UP = """
    SELECT oid, typarray FROM pg_type WHERE typname = 'hstore' AND typtype = 'b'
    ORDER BY pg_type_is_visible(oid) DESC LIMIT 1
"""

_NO_TYPE = "DB_NATIVE_HSTORE is set, and the database has no type hstore: CREATE EXTENSION hstore, or unset it"


class Array(_PsycopgARRAY):
    """The stock dialect's, which also reads an array of hstore that arrives as text."""

    def result_processor(self, dialect: Any, coltype: object) -> Any:
        process = super().result_processor(dialect, coltype)
        if dialect._has_native_hstore or not self._holds_hstore(dialect):
            return process
        elements = _elements()
        return lambda value: process(elements(value) if isinstance(value, str) else value)

    def _holds_hstore(self, dialect: Dialect) -> bool:
        item = self.item_type.dialect_impl(dialect)
        while isinstance(item, TypeDecorator):
            item = item.impl_instance.dialect_impl(dialect)
        return isinstance(item, HSTORE)


def _elements() -> Callable[[str], Any]:
    """What gives the elements of an array's text, as texts."""
    loader = Transformer().get_loader(psycopg.adapters.types["text"].array_oid, Format.TEXT)
    return lambda text: loader.load(text.encode())


def type_info(connection: Connection) -> TypeInfo:
    """What the database says of its type. Raises ConfigurationError where it has none."""
    found = connection.exec_driver_sql(_LOOK_UP).one_or_none()
    if found is None:
        raise ConfigurationError([_NO_TYPE])
    return TypeInfo("hstore", *found)
