"""psycopg's description of a result, made with fewer calls.

SQLAlchemy asks for it with every result, ``db.aio`` three times, and looks at names and types the first time that a
statement is met. psycopg makes each column by some seven calls of Python, most of them to look its type up, which is
asked for a column's precision and the like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult
    from psycopg.types import TypeInfo, TypesRegistry

_WITH_ROWS = {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.SINGLE_TUPLE, pq.ExecStatus.TUPLES_CHUNK}


class FlightColumn(psycopg.Column):
    """``psycopg.Column``, which looks its type up when that is asked for."""

    _types: TypesRegistry

    def __getitem__(self, index: Any) -> Any:
        if index == 0:
            return self._name
        return self._ftype if index == 1 else super().__getitem__(index)

    @property
    def _type(self) -> TypeInfo | None:  # type: ignore[override] # psycopg's constructor, which sets it, is not called
        return self._types.get(self._ftype)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in vars(self).items() if name != "_types"}
        return psycopg.Column.__new__, (psycopg.Column,), state | {"_type": self._type}


def columns_of(result: PGresult, encoding: str, types: TypesRegistry) -> list[psycopg.Column] | None:
    """psycopg's ``description``."""
    if not (result.nfields or result.status in _WITH_ROWS):
        return None
    columns: list[psycopg.Column] = []
    for index in range(result.nfields):
        column = FlightColumn.__new__(FlightColumn)  # not by psycopg's constructor, which makes the calls
        name = result.fname(index)
        column._name = name.decode(encoding) if name else f"column_{index + 1}"  # COPY's have none
        column._ftype, column._fmod, column._fsize = result.ftype(index), result.fmod(index), result.fsize(index)
        column._types = types
        columns.append(column)
    return columns
