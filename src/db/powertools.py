"""``OncePersistenceLayer``: Powertools' ``@idempotent`` on the table of ``db.once``, in one transaction with the work.

Not imported with ``db``: Powertools' idempotency loads boto3.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.idempotency import BasePersistenceLayer
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import STATUS_CONSTANTS, DataRecord
from sqlalchemy import exc

from .environment.process import DEFAULT
from .errors import DOCUMENTATION, DbError, sqlstate
from .timing.invocation import NONE, current_invocation
from .transactions.begin import begin_on
from .transactions.callables import WrongKindError
from .transactions.tenant_scope import tenant_for
from .work.once_records import claim, find, store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from sqlalchemy import Connection

    from .environment.process import Holder
    from .work.database import Database
    from .work.once_records import Stored

_DISABLED = "POWERTOOLS_IDEMPOTENCY_DISABLED"
_LOCK_NOT_AVAILABLE = "55P03"
_SERIALIZER = "; so nothing was done: return what it can hold, or give @idempotent_function an output_serializer"


class OncePersistenceLayer(BasePersistenceLayer):
    """A persistence layer for ``aws_lambda_powertools.utilities.idempotency``, without a table in DynamoDB.

    ``layer.tx`` is the transaction that holds the record while the decorated function runs; what the function does with
    it commits with the record, or not at all. So there is no INPROGRESS that a timeout would leave behind: a duplicate
    waits for the first, and what the first did not commit never was. One that waits for longer than DB_LOCK_TIMEOUT_S
    gets Powertools' IdempotencyAlreadyInProgressError. Work outside of ``layer.tx`` has Powertools' own promise and no
    more; ``db.begin`` inside of it needs a second connection (DB_POOL_SIZE).

    A decorated function inside of another works in a savepoint of the outer one's transaction, and commits with that;
    under another tenant, in a transaction of its own. An event without a key, where Powertools is not told to refuse
    it, runs in a transaction without a record.

    With ``database`` it is the table, and the transaction, of that ``db.Database``.

    The tenant is the one that ``db.scope`` binds around the function, for Powertools' local cache as well. Needs the
    table of ``db.once``.
    """

    def __init__(self, *, database: Database | None = None) -> None:
        self.holder = _holder_of(database)
        self._named = threading.local()
        super().__init__()  # type: ignore[no-untyped-call]  # so in Powertools

    @property
    def function_name(self) -> str:
        """What Powertools puts before each key: the function that it calls, in this thread."""
        return getattr(self._named, "function", "")

    @function_name.setter
    def function_name(self, name: str) -> None:
        self._named.function = name

    @property
    def tx(self) -> Connection:
        """The transaction of the call that runs in this thread. Raises DbError outside of one."""
        call = self._required_call()
        return call.tx if call.tx is not None else call.begin()

    # What Powertools calls. With no key in the event it calls these three alone.

    def save_inprogress(self, data: dict[str, Any], remaining_time_in_millis: int | None = None) -> None:
        _end_what_was_cut_off()
        calls = _running()
        call = _Call(self, sys._getframe(1), around=calls)  # noqa: SLF001 - see _Call
        calls.append(call)
        invocation = current_invocation()
        if invocation is not NONE and _end_what_was_cut_off not in invocation.at_end:
            invocation.at_end.append(_end_what_was_cut_off)
        try:
            super().save_inprogress(data=data, remaining_time_in_millis=remaining_time_in_millis)
        except BaseException:
            calls.remove(call)
            call.undo()
            raise

    def save_success(self, data: dict[str, Any], result: dict[str, Any]) -> None:
        call = self._required_call()
        self.function_name = call.function_name
        try:
            _require_done(result, call.function_name)
            with _said_of_json(f"what {call.function_name} returned", also=_SERIALIZER):
                super().save_success(data=data, result=result)
            call.commit()  # where there was no key
        except BaseException:
            call.undo()
            raise
        finally:
            _running().remove(call)

    def delete_record(self, data: dict[str, Any], exception: Exception) -> None:
        call = self._call()
        if call is not None:
            self.function_name = call.function_name
            _running().remove(call)
            call.undo()
        super().delete_record(data=data, exception=exception)

    # What those call for a key.

    def _generate_hash(self, data: Any) -> str:
        with _said_of_json(f"the key, or the payload, of {self.function_name}"):
            hashed: str = super()._generate_hash(data)
        return hashed

    def _put_record(self, data_record: DataRecord) -> None:
        call, key = _running()[-1], data_record.idempotency_key
        if call.runs_for(key):
            raise IdempotencyItemAlreadyExistsError(old_data_record=_in_progress(key))
        call.key = key
        expires_in_s = (data_record.expiry_timestamp or 0) - time.time()
        try:
            stored = claim(call.begin(), key, payload_hash=data_record.payload_hash, expires_in_s=expires_in_s)
        except exc.DBAPIError as error:
            if sqlstate(error) == _LOCK_NOT_AVAILABLE:
                raise IdempotencyItemAlreadyExistsError(old_data_record=_in_progress(key)) from error
            raise
        if stored is not None:
            existing = _data_record(key, stored)
            self._validate_payload(data_record, existing)
            self._save_to_cache(existing)
            raise IdempotencyItemAlreadyExistsError(old_data_record=existing)

    def _update_record(self, data_record: DataRecord) -> None:
        store(self.tx, data_record.idempotency_key, data_record.response_data)
        # Now, for what comes next is Powertools' cache.
        self._required_call().commit()

    def _delete_record(self, data_record: DataRecord) -> None:
        """Nothing: it has been rolled back."""

    def _get_record(self, idempotency_key: str) -> DataRecord:
        call = _Call(self, sys._getframe(), around=_running())  # noqa: SLF001 - see _Call
        try:
            stored = find(call.begin(), idempotency_key)
        finally:
            call.undo()
        if stored is None:
            raise IdempotencyItemNotFoundError
        return _data_record(idempotency_key, stored)

    # The local cache, which Powertools keeps by the key alone.

    def _save_to_cache(self, data_record: DataRecord) -> None:
        if self.use_local_cache and data_record.status == STATUS_CONSTANTS["COMPLETED"]:
            self._cache[_of_tenant(data_record.idempotency_key)] = data_record

    def _retrieve_from_cache(self, idempotency_key: str) -> DataRecord | None:
        found: DataRecord | None = super()._retrieve_from_cache(_of_tenant(idempotency_key))
        return found

    def _delete_from_cache(self, idempotency_key: str) -> None:
        super()._delete_from_cache(_of_tenant(idempotency_key))

    def _call(self) -> _Call | None:
        """The innermost call of this layer that runs in this thread."""
        _end_what_was_cut_off()
        return next((call for call in reversed(_running()) if call.layer is self), None)

    def _required_call(self) -> _Call:
        call = self._call()
        if call is None:
            raise DbError(_why_there_is_none())
        return call


def _holder_of(database: Database | None) -> Holder:
    if database is None:
        return DEFAULT
    from .work.database import holder_of  # which is loaded where there is one

    return holder_of(database)


class _Call:
    """A call of a decorated function, and its transaction, from the first use on.

    ``frame`` is Powertools' own, which stands on the stack for as long as the function runs. By that a call is known
    whose end Powertools does not tell: one that ended by a BaseException, or by a result that could not be stored.
    """

    def __init__(self, layer: OncePersistenceLayer, frame: FrameType, *, around: Sequence[_Call]) -> None:
        self.layer = layer
        self.function_name = layer.function_name  # a function inside of this one replaces it
        self.frame = frame
        self.key: str | None = None
        self.tenant = tenant_for(None, required=False)
        self.tx: Connection | None = None
        self._around = tuple(
            call for call in around if call.tenant == self.tenant and call.layer.holder is layer.holder
        )
        self._opened = ExitStack()

    def begin(self) -> Connection:
        """Its transaction: a savepoint in that of the call around it, where there is one of the tenant and database."""
        outer = next((call.tx for call in reversed(self._around) if call.tx is not None), None)
        if outer is None:
            self.tx = self._opened.enter_context(begin_on(self.layer.holder))
        else:
            self._opened.enter_context(outer.begin_nested())
            self.tx = outer
        return self.tx

    def runs_for(self, key: str) -> bool:
        """Whether a call around this one has the key: it cannot be waited for, and what it does is not done yet."""
        return any(call.key == key for call in self._around)

    def commit(self) -> None:
        """Commit what is open."""
        self.tx = None
        self._opened.close()

    def undo(self) -> None:
        """Roll back what is open. Where that fails it has been undone too, and the error that led here says more."""
        self.tx = None
        with suppress(_UndoneError, exc.SQLAlchemyError), self._opened:
            raise _UndoneError

    def is_running(self) -> bool:
        """Whether the frame is on this thread's stack."""
        frame: FrameType | None = sys._getframe()  # noqa: SLF001 - what sys has for it
        while frame is not None and frame is not self.frame:
            frame = frame.f_back
        return frame is not None


class _UndoneError(Exception):
    """Has a block rolled back. Never leaves this module."""


_here = threading.local()


def _running() -> list[_Call]:
    """The calls in this thread, the innermost last. Of all layers, for they share one pool of connections."""
    calls: list[_Call] = _here.__dict__.setdefault("calls", [])
    return calls


def _end_what_was_cut_off() -> None:
    """Undo the calls that have ended unheard, and those inside of them."""
    calls = _running()
    over = next((position for position, call in enumerate(calls) if not call.is_running()), len(calls))
    while len(calls) > over:
        calls.pop().undo()


def _why_there_is_none() -> str:
    if os.environ.get(_DISABLED, "").lower() in {"1", "y", "yes", "t", "true", "on"}:
        return (
            f"there is no transaction: {_DISABLED} is set, so Powertools' decorator calls the function without this "
            "layer; unset it, or have the function open db.begin() itself"
        )
    return (
        "there is no transaction outside of the function that Powertools' decorator calls, nor in a thread that it "
        f"starts: see {DOCUMENTATION}use/once/#powertools-own-decorator"
    )


def _require_done(result: object, function_name: str) -> None:
    """Raise WrongKindError for what nobody has awaited yet: it would be noted as done."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()  # it would be warned of
        raise WrongKindError(
            f"{function_name} is async def, which Powertools' decorator does not await: aio.idempotent does"
        )


@contextmanager
def _said_of_json(what: str, *, also: str = "") -> Iterator[None]:
    """Say of what JSON is made where it cannot be: json's own error names a type and no place."""
    try:
        yield
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"JSON cannot hold {what}: {error}{also}") from error


def _of_tenant(key: str) -> str:
    tenant = tenant_for(None, required=False)
    return key if tenant is None else f"{key}\x00{tenant}"  # which stands in no tenant's name


def _data_record(key: str, stored: Stored) -> DataRecord:
    # Whatever is seen has committed, and with it the work.
    return DataRecord(
        idempotency_key=key,
        status=STATUS_CONSTANTS["COMPLETED"],
        expiry_timestamp=stored.expires_at,
        response_data=stored.result or "",
        payload_hash=stored.payload_hash or "",
    )


def _in_progress(key: str) -> DataRecord:
    return DataRecord(idempotency_key=key, status=STATUS_CONSTANTS["INPROGRESS"])
