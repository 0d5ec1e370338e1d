"""``Database``: all that the module ``db`` has for the default database, for one beside it.

Nothing is decided here: each call is that of the module, with another holder.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload

from db.environment.further import FurtherHolder
from db.environment.process import DEFAULT
from db.settings import Settings
from db.settings.prefixes import name_of
from db.transactions.begin import begin_on, session_on
from db.transactions.blocks import by_name
from db.transactions.read import fetch_on, read_on
from db.transactions.run import run_on
from db.transactions.write import write_on

from .batch import batch_on
from .copy_rows import copy_rows_on
from .idempotent import idempotent_on
from .once import DAY_S, once_on
from .once_records import purge_once_on
from .prime import prime_on
from .reflect import reflect_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self

    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from sqlalchemy import Connection, CursorResult, Engine, Executable, MetaData, Result, Table
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.selectable import TypedReturnsRows

    from db.environment.handler_decorator import Handler
    from db.environment.process import Holder
    from db.environment.runtime import Status
    from db.transactions.begin import SessionT
    from db.transactions.unit_of_work import Isolation

    from .batch import ModelT, RecordT
    from .copy_plan import Row
    from .once import Once
    from .prime import Primed, Statement

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
EventT = TypeVar("EventT")
ContextT = TypeVar("ContextT")


class Database:
    """A database beside the default one, with settings, credentials, pool and engine of its own.

    It has what the module ``db`` has for the default one, under the same names, with the same promises; and ``aio``,
    what ``db.aio`` has. The invocation and its deadline, the tenant that ``db.scope`` binds, and what is done at a
    fork, a snapshot or the end are one for all databases. Two of them do not commit together.

    Make it where the module is loaded, and keep it: nothing is read or opened before it is used, and what is dropped is
    closed. ``settings`` are for code and tests; ``name`` is for log lines, metrics and messages. Raises
    ConfigurationError for a name that is none.
    """

    def __init__(self, settings: Settings, *, name: str = "other") -> None:
        given: object = settings
        if not isinstance(given, Settings):
            hint = ": take db.Database.from_env(prefix=…)" if isinstance(given, str) else ""
            raise TypeError(f"db.Database takes db.Settings(...), not a {type(given).__name__}{hint}")
        self._holder: Holder = FurtherHolder(name=name, settings=settings)

    @classmethod
    def from_env(cls, *, prefix: str, name: str | None = None) -> Self:
        """The database whose settings are the variables that begin with ``prefix``: AUDIT_DB_HOST for ``AUDIT_DB_``.

        They are those of the table of settings, and are read when it is first used. ``name`` follows from the prefix
        unless it is given: ``audit``. Raises ConfigurationError for a prefix that is none, or the default's DB_.
        """
        made = cls.__new__(cls)
        by_prefix = name_of(prefix)  # which refuses what is none
        made._holder = FurtherHolder(name=name or by_prefix, prefix=prefix)  # noqa: SLF001 - a second way to make one
        return made

    @property
    def name(self) -> str:
        """What log lines, metrics and messages call it."""
        return self._holder.called

    def __repr__(self) -> str:
        return f"<db.Database {self.name!r}>"

    if not TYPE_CHECKING:  # the room above says what it is: see ``aio.database``

        @property
        def aio(self) -> Any:
            """What ``db.aio`` has, on this database."""
            # Not imported with this module, as it loads greenlet and the ORM.
            return importlib.import_module("db.aio.database").AsyncDatabase(self)

    def configure(
        self,
        settings: Settings | None = None,
        *,
        engine_options: Mapping[str, Any] | None = None,
        on_engine: Callable[[Engine], object] | None = None,
    ) -> None:
        """``db.configure``, for this database; without ``settings``, by what it was made with."""
        self._holder.configure(settings, engine_options=engine_options, on_engine=on_engine)

    def engine(self, role: Literal["writer", "reader"] = "writer") -> Engine:
        """``db.engine``, of this database."""
        return self._holder.engine(role)

    def dispose(self) -> None:
        """``db.dispose``, for this database alone."""
        self._holder.dispose()

    def status(self) -> Status:
        """``db.status``, of this database alone; ``database`` is its name."""
        return self._holder.current().status()

    @by_name("Database.begin", places=1)
    def begin(
        self, *, tenant: str | None = None, isolation: Isolation | None = None
    ) -> AbstractContextManager[Connection]:
        """``db.begin``, on this database."""
        return begin_on(self._holder, tenant=tenant, isolation=isolation)

    @overload
    def session(
        self,
        *,
        tenant: str | None = None,
        isolation: Isolation | None = None,
        tx: Connection | None = None,
        read_only: bool = False,
        class_: None = None,
    ) -> AbstractContextManager[Session]: ...

    @overload
    def session(
        self,
        *,
        tenant: str | None = None,
        isolation: Isolation | None = None,
        tx: Connection | None = None,
        read_only: bool = False,
        class_: type[SessionT],
    ) -> AbstractContextManager[SessionT]: ...

    @by_name("Database.session", places=1)
    def session(
        self,
        *,
        tenant: str | None = None,
        isolation: Isolation | None = None,
        tx: Connection | None = None,
        read_only: bool = False,
        class_: type[Session] | None = None,
    ) -> AbstractContextManager[Session]:
        """``db.session``, on this database."""
        return session_on(self._holder, tenant=tenant, isolation=isolation, tx=tx, read_only=read_only, class_=class_)

    @by_name("Database.read", places=1)
    def read(
        self, *, tenant: str | None = None, snapshot: bool = False, fresh: bool = False
    ) -> AbstractContextManager[Connection]:
        """``db.read``, on this database."""
        return read_on(self._holder, tenant=tenant, snapshot=snapshot, fresh=fresh)

    @overload
    def fetch(
        self, *statements: TypedReturnsRows[*Ts], tenant: str | None = None, fresh: bool = False
    ) -> list[Result[*Ts]]: ...

    @overload
    def fetch(
        self, *statements: Executable, tenant: str | None = None, fresh: bool = False
    ) -> list[Result[*tuple[Any, ...]]]: ...

    def fetch(
        self, *statements: Executable, tenant: str | None = None, fresh: bool = False
    ) -> list[Result[*tuple[Any, ...]]]:
        """``db.fetch``, on this database."""
        return fetch_on(self._holder, *statements, tenant=tenant, fresh=fresh)

    @overload
    def write(
        self, *statements: TypedReturnsRows[*Ts], tenant: str | None = None, isolation: Isolation | None = None
    ) -> list[CursorResult[*Ts]]: ...

    @overload
    def write(
        self, *statements: Executable, tenant: str | None = None, isolation: Isolation | None = None
    ) -> list[CursorResult[*tuple[Any, ...]]]: ...

    def write(
        self, *statements: Executable, tenant: str | None = None, isolation: Isolation | None = None
    ) -> list[CursorResult[*tuple[Any, ...]]]:
        """``db.write``, on this database."""
        return write_on(self._holder, *statements, tenant=tenant, isolation=isolation)

    @overload
    def run(
        self,
        fn: Callable[[Connection, Unpack[Ts]], T],
        *args: *Ts,
        tenant: str | None = None,
        isolation: Isolation | None = None,
    ) -> T: ...

    @overload
    def run(
        self,
        fn: Callable[Concatenate[Connection, ...], T],
        *,
        tenant: str | None,
        isolation: Isolation | None = None,
        **kwargs: Any,
    ) -> T: ...

    @overload
    def run(
        self,
        fn: Callable[Concatenate[Connection, ...], T],
        *,
        tenant: str | None = None,
        isolation: Isolation | None,
        **kwargs: Any,
    ) -> T: ...

    @overload
    def run(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T: ...

    def run(  # type: ignore[misc]  # mypy misses Unpack in it
        self,
        fn: Callable[..., T],
        *args: Any,
        tenant: str | None = None,
        isolation: Isolation | None = None,
        **kwargs: Any,
    ) -> T:
        """``db.run``, on this database."""
        return run_on(self._holder, fn, *args, tenant=tenant, isolation=isolation, **kwargs)

    def once(
        self,
        key: str,
        *,
        tenant: str | None = None,
        payload: Any = None,
        expires_in_s: float = DAY_S,
        isolation: Isolation | None = None,
        tx: Connection | None = None,
    ) -> Once:
        """``db.once``, on this database."""
        return once_on(
            self._holder, key, tenant=tenant, payload=payload, expires_in_s=expires_in_s, isolation=isolation, tx=tx
        )

    @by_name("Database.idempotent", places=1)
    def idempotent(
        self,
        *,
        key: str,
        payload: str | None = None,
        tenant: str | None = None,
        expires_in_s: float = DAY_S,
        name: str | None = None,
    ) -> Callable[[Callable[[Connection, EventT, ContextT], T]], Handler[EventT, ContextT, T]]:
        """``db.idempotent``, on this database."""
        return idempotent_on(
            self._holder, key=key, payload=payload, tenant=tenant, expires_in_s=expires_in_s, name=name
        )

    def purge_once(self, *, limit: int = 10_000) -> int:
        """``db.purge_once``, on this database."""
        return purge_once_on(self._holder, limit=limit)

    @overload
    def batch(
        self,
        event: Mapping[str, Any],
        record_handler: Callable[[Connection, RecordT], object],
        *,
        tenant: str | Callable[[RecordT], str | None] | None = None,
        model: None = None,
        isolation: Isolation | None = None,
        skip_group_on_error: bool = True,
        raise_on_entire_batch_failure: bool = False,
    ) -> PartialItemFailureResponse: ...

    @overload
    def batch(
        self,
        event: Mapping[str, Any],
        record_handler: Callable[[Connection, ModelT], object],
        *,
        tenant: str | Callable[[ModelT], str | None] | None = None,
        model: type[ModelT],
        isolation: Isolation | None = None,
        skip_group_on_error: bool = True,
        raise_on_entire_batch_failure: bool = False,
    ) -> PartialItemFailureResponse: ...

    def batch(
        self,
        event: Mapping[str, Any],
        record_handler: Callable[[Connection, Any], object],
        *,
        tenant: str | Callable[[Any], str | None] | None = None,
        model: Any = None,
        isolation: Isolation | None = None,
        skip_group_on_error: bool = True,
        raise_on_entire_batch_failure: bool = False,
    ) -> PartialItemFailureResponse:
        """``db.batch``, on this database."""
        return batch_on(
            self._holder,
            event,
            record_handler,
            tenant=tenant,
            model=model,
            isolation=isolation,
            skip_group_on_error=skip_group_on_error,
            raise_on_entire_batch_failure=raise_on_entire_batch_failure,
        )

    def copy_rows(
        self,
        table: Table | str,
        rows: Iterable[Row],
        *,
        columns: Sequence[str] | None = None,
        tenant: str | None = None,
        tx: Connection | None = None,
        progress: Callable[[int], object] | None = None,
        chunk_rows: int | None = None,
        binary: bool = False,
    ) -> int:
        """``db.copy_rows``, on this database."""
        return copy_rows_on(
            self._holder,
            table,
            rows,
            columns=columns,
            tenant=tenant,
            tx=tx,
            progress=progress,
            chunk_rows=chunk_rows,
            binary=binary,
        )

    def reflect(
        self,
        *,
        schema: str | None = None,
        only: Sequence[str] | None = None,
        views: bool = False,
        snapshot: str | Path | None = None,
    ) -> MetaData:
        """``db.reflect``, on this database."""
        return reflect_on(self._holder, schema=schema, only=only, views=views, snapshot=snapshot)

    def prime(self, *statements: Statement) -> Primed:
        """``db.prime``, on this database."""
        return prime_on(self._holder, *statements)


def holder_of(database: Database | None) -> Holder:
    """That of ``database``, or of the default one. Raises TypeError for what is none."""
    if database is None:
        return DEFAULT
    if not isinstance(database, Database):
        raise TypeError(f"a db.Database is asked for here, and {type(database).__name__} was given")
    return database._holder  # noqa: SLF001 - its users need not see it
