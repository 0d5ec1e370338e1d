"""A statement as a driver was given it, in the server's words: ``$1`` for ``%(id)s``, and the types that were sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# As psycopg reads it, which does not look for quotes: a lone % in them has to be doubled.
_PLACEHOLDER = re.compile(r"%(?:%|(?:\((?P<name>[^)]+)\))?[sbt])")
_SERVERS_OWN = "numeric_dollar"
_DRIVERS = {"pyformat", "format"}


@dataclass(frozen=True)
class Numbered:
    """``parts`` are its text, and the number of a parameter wherever one stands; ``values``, what was sent for each."""

    parts: tuple[str | int, ...]
    values: tuple[Any, ...]

    def text(self, types: Sequence[str | None]) -> str:
        """With ``$n``, each cast to its type of ``types``; the server finds out those that are None."""
        casts = [f"::{name}" if name else "" for name in types]
        return "".join(part if isinstance(part, str) else f"${part + 1}{casts[part]}" for part in self.parts)


def numbered(statement: str, paramstyle: str, parameters: Any) -> Numbered | None:
    """``statement`` with its parameters numbered; None for a driver whose placeholders are not known here.

    ``parameters`` are None where the driver was given none, and then reads no placeholders.
    """
    if paramstyle == _SERVERS_OWN or (paramstyle in _DRIVERS and parameters is None):
        return Numbered((statement,), ())
    if paramstyle not in _DRIVERS:
        return None
    parts: list[str | int] = []
    names: dict[str | int, int] = {}
    end = count = 0
    for match in _PLACEHOLDER.finditer(statement):
        parts.append(statement[end : match.start()])
        end = match.end()
        if match[0] == "%%":
            parts.append("%")
            continue
        key = match["name"] or count
        count += 1
        parts.append(names.setdefault(key, len(names)))
    parts.append(statement[end:])
    return Numbered(tuple(parts), tuple(parameters[key] for key in names))


def sent_types(numbered: Numbered, driver_connection: Any) -> tuple[int, ...]:
    """The OIDs of the types that psycopg sends the values as; 0 where it leaves the type to the server.

    A number that goes as ``numeric`` finds no index on integers: so the type decides what can be planned.
    """
    if not is_psycopg(driver_connection):
        return (0,) * len(numbered.values)
    from psycopg.adapt import PyFormat, Transformer

    transformer = Transformer.from_context(driver_connection)
    transformer.dump_sequence(numbered.values, [PyFormat.AUTO] * len(numbered.values))
    return tuple(oid or 0 for oid in transformer.types or ())


def is_psycopg(driver_connection: Any) -> bool:
    """Whether it is one of psycopg 3, sync or async, without importing that."""
    return any(one.__module__.partition(".")[0] == "psycopg" for one in type(driver_connection).__mro__)
