"""The records of an event, each in a transaction of its own: for an engine without savepoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from db.errors import DeadlineError
from db.transactions.callables import WrongKindError, done
from db.transactions.run import run_on

from .batch_attempt import UnprocessedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from db.environment.process import Holder
    from db.transactions.unit_of_work import Isolation

    from .event_records import Item


def failures_of(
    holder: Holder,
    items: Sequence[Item],
    record_handler: Callable[[Connection, Any], object],
    isolation: Isolation | None,
) -> dict[str, Exception]:
    """What failed, by id; what did not has committed. The rest is reported where the invocation's time is over."""
    failures: dict[str, Exception] = {}
    halted: set[str] = set()
    for number, item in enumerate(items):
        if item.order in halted:
            failures[item.id] = UnprocessedError()
            continue
        try:
            error = item.error or _failure_of(holder, item, record_handler, isolation)
        except DeadlineError as late:
            return failures | dict.fromkeys((left.id for left in items[number:]), late)
        if error is not None:
            failures[item.id] = error
            if item.order is not None:
                halted.add(item.order)
    return failures


def _failure_of(
    holder: Holder,
    item: Item,
    record_handler: Callable[[Connection, Any], object],
    isolation: Isolation | None,
) -> Exception | None:
    """Run one record, again where that is safe. Raises DeadlineError where no time is left for it."""

    def handle(tx: Connection) -> None:
        done(record_handler(tx, item.record), record_handler, call=f"{holder.called}.batch")

    try:
        run_on(holder, handle, tenant=item.tenant, isolation=isolation)
    except (WrongKindError, DeadlineError):
        raise
    except Exception as error:  # noqa: BLE001 - the record's own failure, whatever it is
        return error
    return None
