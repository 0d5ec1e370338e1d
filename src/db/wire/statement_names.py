"""Names for statements that come often: the server parses such a one once, and keeps its plan. No name costs a trip.

psycopg's manager counts the statements of a connection and gives the names, no more at a time than its
``prepared_max``; by itself it prepares, and does away with a name, in a trip each. Here Parse rides ahead of the
statement's first use by its name, and Close in the next flight of all. The prologue, and what rides with its values,
have names as well.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg import pq
from psycopg._preparing import Prepare, PrepareManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from psycopg._connection_base import BaseConnection
    from psycopg._preparing import Key
    from psycopg._queries import PostgresQuery
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult

_COMMAND_OK = pq.ExecStatus.COMMAND_OK
_FATAL_ERROR = pq.ExecStatus.FATAL_ERROR
_SQLSTATE = pq.DiagnosticField.SQLSTATE
_FUNCTION = pq.DiagnosticField.SOURCE_FUNCTION
# What a statement's parameters are, and what its result may look like, belongs to the name; whatever else has changed,
# the server sees to by itself.
_OVERTAKES = re.compile(rb"DROP|ALTER|DISCARD ALL|DEALLOCATE").match

# The SQLSTATEs of what was overtaken, or may have been: by themselves, and by their classes.
_CANNOT = b"0A000"  # feature_not_supported
_OF_TYPES = (b"42", b"XX")  # undefined_function, datatype_mismatch; internal_error: "cache lookup failed for type"
_OF_NO_TYPE = {b"42501", b"42P05"}  # insufficient_privilege, as of a policy; of a pooler's, that the name is taken
_OF_VALUES = b"22"  # data_exception: the old type may not hold what the new one does
_NO_SUCH_NAME = b"26000"  # invalid_sql_statement_name


class Sending:
    """A statement for a flight, which may go by a name. Called, it goes without one."""

    __slots__ = ("formats", "params", "pgconn", "prepare", "query", "result_format", "types")

    def __init__(
        self,
        pgconn: PGconn,
        query: bytes,
        params: Sequence[Any] | None,
        *,
        types: tuple[int, ...] = (),
        formats: Sequence[pq.Format] | None = None,
        result_format: pq.Format = pq.Format.TEXT,
        prepare: bool | None = None,
    ) -> None:
        self.pgconn, self.query, self.params, self.types = pgconn, query, params, types
        self.formats, self.result_format, self.prepare = formats, result_format, prepare

    def __call__(self) -> None:
        self.pgconn.send_query_params(
            self.query,
            self.params,
            param_formats=self.formats,
            param_types=self.types or None,
            result_format=self.result_format,
        )

    def by_name(self, name: bytes) -> None:
        """Bind and Execute, of what has been parsed."""
        self.pgconn.send_query_prepared(name, self.params, param_formats=self.formats, result_format=self.result_format)


class Boarding:
    """The messages of a flight in which statements may have names, and where the answer to each statement will be."""

    _of: StatementNames
    _closing: list[bytes]
    # The place of its answer, and for one with a name the key of that, and whether it is parsed in this flight.
    _seats: list[tuple[int, Key | None, bool]]

    def __init__(self, names: StatementNames, pgconn: PGconn, statements: Iterable[Callable[[], None]]) -> None:
        self._of = names
        self._closing = names.due()
        self.sends: list[Callable[[], None]] = [partial(pgconn.send_close_prepared, name) for name in self._closing]
        self._seats = []
        self.is_overtaken = False
        for statement in statements:
            self._take(names, pgconn, statement)

    def _take(self, names: StatementNames, pgconn: PGconn, statement: Callable[[], None]) -> None:
        key, parses = None, False
        if isinstance(statement, Sending):
            prep, name = names.of(statement)
            if prep is Prepare.NO:
                self.sends.append(statement)
            else:
                key, parses = names.key_of(statement), prep is Prepare.SHOULD
                if parses:
                    self.sends.append(
                        partial(pgconn.send_prepare, name, statement.query, param_types=statement.types or None)
                    )
                self.sends.append(partial(statement.by_name, name))
        else:
            self.sends.append(statement)
        self._seats.append((len(self.sends) - 1, key, parses))

    def answers(self, answers: list[list[PGresult]]) -> list[list[PGresult]]:
        """Those to the statements, of which the error may have come to the Parse ahead of it."""
        self._of.closed([name for name, results in zip(self._closing, answers, strict=False) if _is_done(results)])
        answers += [[] for _ in range(len(self.sends) - len(answers))]
        of_statements = []
        for place, key, parses in self._seats:
            results = answers[place]
            if parses and not _is_done(answers[place - 1]):
                self._of.forget(key)
                if _error_of(answers[place - 1]) is not None:
                    results = answers[place - 1]
            elif key is not None and (error := _error_of(results)) is not None:
                self.is_overtaken = self._of.failed(key, error) or self.is_overtaken
            self._of.heard(results)
            of_statements.append(results)
        return of_statements


class StatementNames(PrepareManager):
    """psycopg's, of a connection whose flights carry what it would have sent alone."""

    # psycopg's has its default at the class: where one is, Python looks there first each time, and there are four a
    # statement.
    __slots__ = ("prepare_threshold",)

    prepare_threshold: int | None
    _fresh: list[Key]  # named within the transaction that is open: by what it has changed, which its rollback undoes

    def __init__(self) -> None:
        super().__init__()
        self.prepare_threshold = PrepareManager.prepare_threshold
        self._fresh = []

    def begun(self) -> None:
        """A transaction has begun: those that have a name by now had it in one that was committed."""
        self._fresh.clear()

    def of(self, statement: Sending | PostgresQuery, prepare: bool | None = None) -> tuple[Prepare, bytes]:
        """Whether the statement has a name, is to have this one, or none; and count it."""
        # psycopg reads the two attributes that both have.
        query: Any = statement
        if prepare is None:
            prepare = getattr(query, "prepare", None)
        prep, name = self.get(query, prepare)
        self.maybe_add_to_cache(query, prep, name)
        self._rotate()
        return prep, name

    def key_of(self, statement: Any) -> Key:
        """By which its name is kept: its text and the types of its values."""
        key: Key = self.key(statement)
        return key

    def maybe_add_to_cache(self, query: PostgresQuery, prep: Prepare, name: bytes) -> Key | None:
        """psycopg's, which its own ways to send a statement call as well."""
        if prep is Prepare.SHOULD:
            self._fresh.append(self.key(query))
            del self._fresh[
                : -self.prepared_max
            ]  # in autocommit no transaction begins; older ones have lost their name
        return super().maybe_add_to_cache(query, prep, name)

    def forget(self, key: Key | None) -> None:
        """The name is of no use any more, if it has come to be."""
        if key is not None and (name := self._names.pop(key, None)) is not None:
            self._to_flush.append(name)

    def heard(self, results: Sequence[PGresult]) -> None:
        """Forget the names where a statement has changed, or undone, what they stand for."""
        for result in results:
            if result.status == _COMMAND_OK and (done := result.command_status):
                if _OVERTAKES(done):
                    self.forget_all()
                elif done == b"ROLLBACK":
                    self.clear()

    def ran(self, key: Key | None, results: Sequence[PGresult]) -> None:
        """A statement was sent in no flight, and these came of it."""
        self.heard(results)
        if (error := _error_of(results)) is not None:
            self.failed(key, error)

    def failed(self, key: Key | None, error: PGresult) -> bool:
        """Forget the name where what it stands for may be why its statement failed; whether that is to be run again.

        Without its name it costs a Parse, and with one that is of no use it would fail for as long as the connection
        lives. So it loses it as well for what is another's fault most often, a value, and is not run again then.
        """
        code = error.error_field(_SQLSTATE) or b""
        overtaken = _is_overtaken(code, error)
        if code == _NO_SUCH_NAME:
            self.forget_all()  # whoever has dropped one has dropped more
        elif overtaken or code.startswith(_OF_VALUES):
            self.forget(key)
        return overtaken

    def forget_all(self) -> None:
        """Begin anew."""
        self._to_flush.extend(self._names.values())
        self._names.clear()
        self._counts.clear()
        self._fresh.clear()

    def due(self) -> list[bytes]:
        """Names to be closed. Closing one that is not there is no error."""
        return [name for name in self._to_flush if name is not None]

    def closed(self, names: Sequence[bytes]) -> None:
        """The server has let go of them."""
        for name in names:
            self._to_flush.remove(name)

    # What psycopg calls.

    def clear(self) -> bool:
        """psycopg's, called at each rollback, be it to a savepoint. A name outlives that, but for those made in it."""
        for key in self._fresh:
            self.forget(key)
        self._fresh.clear()
        return False

    def validate(self, key: Key, prep: Prepare, name: bytes, results: Sequence[PGresult]) -> None:  # noqa: ARG002 - psycopg's signature
        """psycopg's, which would leave the name of a statement that failed on the server."""
        if self._check_results(results):
            self._rotate()
        else:
            self.forget(key)
            self._counts.pop(key, None)

    def maintain_gen(self, conn: BaseConnection[Any]) -> PQGen[None]:  # noqa: ARG002 - psycopg's signature
        """psycopg's, which closes names in a trip each. They wait for the next flight."""
        yield from ()


def _is_overtaken(code: bytes, error: PGresult) -> bool:
    """Whether the server has refused what it had parsed for what has become of that since.

    It would give other columns now: that code is that of all which PostgreSQL cannot do, and the function tells it from
    the rest, in any language. Or a parameter, whose type was settled when it was parsed, does not fit its column any
    more, or is of a type that was dropped; whatever else has such a code will only fail once more.
    """
    if code == _CANNOT:
        return error.error_field(_FUNCTION) == b"RevalidateCachedQuery"
    return code.startswith(_OF_TYPES) and code not in _OF_NO_TYPE


def _error_of(results: Sequence[PGresult]) -> PGresult | None:
    return next((result for result in results if result.status == _FATAL_ERROR), None)


def _is_done(results: Sequence[PGresult]) -> bool:
    return bool(results) and results[0].status == _COMMAND_OK
