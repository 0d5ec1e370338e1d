"""``OncePersistenceLayer``: Powertools' ``@idempotent`` on the table of ``db.once``, in one transaction with the work.

Not imported with ``db``: Powertools' idempotency loads boto3.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from aws_lambda_powertools.utilities.idempotency import BasePersistenceLayer
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import STATUS_CONSTANTS, DataRecord

from .errors import DbError
from .transactions.begin import begin
from .work.once_records import claim, find, store

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .work.once_records import Stored


class OncePersistenceLayer(BasePersistenceLayer):
    """A persistence layer for ``aws_lambda_powertools.utilities.idempotency``, without a table in DynamoDB.

    ``layer.tx`` is the transaction that holds the record while the decorated function runs; what the function does with
    it commits with the record, or not at all. So there is no INPROGRESS that a timeout would leave behind: a duplicate
    waits for the first, and what the first did not commit never was. Work outside of ``layer.tx`` has Powertools' own
    promise and no more; ``db.begin`` inside of it needs a second connection (DB_POOL_SIZE).

    The tenant is the one that ``db.scope`` binds around the function. Needs the table of ``db.once``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # so in Powertools
        # By thread and not by context: what a call left open is found by the next one, in a context of its own.
        self._open = threading.local()

    @property
    def tx(self) -> Connection:
        """The transaction of the call that runs in this thread. Raises DbError outside of one."""
        tx: Connection | None = getattr(self._open, "tx", None)
        if tx is None:
            raise DbError("there is no transaction outside of the function that Powertools' decorator calls")
        return tx

    def _put_record(self, data_record: DataRecord) -> None:
        self._close()  # of a call that neither returned nor raised an Exception
        with ExitStack() as stack:
            tx = stack.enter_context(begin())
            expires_in_s = (data_record.expiry_timestamp or 0) - time.time()
            key = data_record.idempotency_key
            stored = claim(tx, key, payload_hash=data_record.payload_hash, expires_in_s=expires_in_s)
            if stored is not None:
                existing = _data_record(key, stored)
                self._validate_payload(data_record, existing)
                raise IdempotencyItemAlreadyExistsError(old_data_record=existing)
            self._open.tx, self._open.stack = tx, stack.pop_all()

    def _update_record(self, data_record: DataRecord) -> None:
        tx = self.tx
        with self._taken():
            store(tx, data_record.idempotency_key, data_record.response_data)

    def _delete_record(self, data_record: DataRecord) -> None:  # noqa: ARG002 - Powertools' signature
        self._close()

    def _get_record(self, idempotency_key: str) -> DataRecord:
        with begin() as tx:
            stored = find(tx, idempotency_key)
        if stored is None:
            raise IdempotencyItemNotFoundError
        return _data_record(idempotency_key, stored)

    def _close(self) -> None:
        """Roll back what is open."""
        tx: Connection | None = getattr(self._open, "tx", None)
        if tx is not None:
            with self._taken():
                tx.rollback()

    def _taken(self) -> ExitStack:
        stack: ExitStack = self._open.stack
        self._open.tx = self._open.stack = None
        return stack


def _data_record(key: str, stored: Stored) -> DataRecord:
    # Whatever is seen has committed, and with it the work.
    return DataRecord(
        idempotency_key=key,
        status=STATUS_CONSTANTS["COMPLETED"],
        response_data=stored.result or "",
        payload_hash=stored.payload_hash or "",
    )
