"""Rows as COPY's data: psycopg's encoding of each, without what it does around each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Not public, as psycopg has no name for it that is. Its `write_row` asks it for each row, two calls further down.
from psycopg._copy_base import format_row_binary, format_row_text
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# As much as psycopg gathers, too, before it gives it to libpq.
_SENT_BYTES = 32 * 1024
# What opens data in binary, a field of flags and one of further headers among it, and what ends it.
# https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-BINARY-FORMAT
SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"


def copy_data(copy: Any, parts: Iterable[Sequence[Sequence[Any]]]) -> Iterator[bytearray]:
    """The rows of ``parts`` in the format of psycopg's ``copy``, in pieces to write; without what opens and ends it."""
    formatter = copy.formatter
    transformer = formatter.transformer
    append = format_row_text if formatter.format == Format.TEXT else format_row_binary
    piece = bytearray()
    for part in parts:
        for row in part:
            append(row, transformer, piece)
        if len(piece) > _SENT_BYTES:
            yield piece
            piece = bytearray()
    if piece:
        yield piece
