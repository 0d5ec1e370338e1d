"""Rows as COPY's data: psycopg's encoding of each, without what it does around each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

# Not public, as psycopg has no name for it that is. Its `write_row` asks it for each row, two calls further down.
from psycopg._copy_base import format_row_binary, format_row_text
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# As much as psycopg gathers, too, before it gives it to libpq.
_SENT_BYTES = 32 * 1024
# What opens data in binary, a field of flags and one of further headers among it, and what ends it.
# https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-BINARY-FORMAT
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"


def copy_data(copy: Any, parts: Iterable[Sequence[Sequence[Any]]], *, first_number: int) -> Iterator[bytearray]:
    """The rows of ``parts`` in the format of psycopg's ``copy``, in pieces to write.

    Raises psycopg's errors. Binary, a value that is not of its column's type is DataError, as is a row of another
    length, with the number of its row: the first one's is ``first_number``.
    """
    formatter = copy.formatter
    transformer = formatter.transformer
    binary = formatter.format == Format.BINARY
    append = format_row_binary if binary else format_row_text
    piece = bytearray(_SIGNATURE if binary else b"")
    number = first_number
    row: Sequence[Any] = ()
    for part in parts:
        try:
            for row in part:
                append(row, transformer, piece)
        except Exception as error:
            if not binary:
                raise
            number += next(place for place, one in enumerate(part) if one is row)
            if isinstance(error, psycopg.Error):
                raise type(error)(f"row {number}: {error}") from error
            raise psycopg.DataError(f"row {number}: {type(error).__name__}: {error}") from error
        number += len(part)
        if len(piece) > _SENT_BYTES:
            yield piece
            piece = bytearray()
    if binary:
        piece += _TRAILER
    if piece:
        yield piece
