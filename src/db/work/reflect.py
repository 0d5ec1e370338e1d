"""``reflect``: an existing schema as a ``MetaData``, read once per process, or not at all where a snapshot is at hand.

A snapshot is a file that ``save_snapshot`` writes at build time and that ships with the function. It is a pickle, so it
is code: load only what your own build wrote. It is good for the SQLAlchemy release that wrote it and for no other.
"""

from __future__ import annotations

import pickle
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy
from sqlalchemy import MetaData

from db.environment.process import DEFAULT
from db.errors import ConfigurationError
from db.timing.waiting import on_loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.environment.process import Holder
    from db.environment.runtime import Runtime

_FORMAT = f"serverless-data-access schema 1, SQLAlchemy {sqlalchemy.__version__}\n".encode()

_reflected: weakref.WeakKeyDictionary[Runtime, dict[tuple[object, ...], MetaData]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def reflect(
    *,
    schema: str | None = None,
    only: Sequence[str] | None = None,
    views: bool = False,
    snapshot: str | Path | None = None,
) -> MetaData:
    """The tables of ``schema`` (the default one unless named) as the database has them: all, or ``only`` those named.

    The database is asked once per process, with about a dozen statements however many tables there are, on the reader
    where there is one; later calls with the same arguments get the same object. With ``snapshot`` it is not asked: the
    file's tables are given, whatever the other arguments say. The catalogue belongs to no tenant, so none is needed.

    Raises ConfigurationError where the snapshot is missing, or another SQLAlchemy release wrote it; SQLAlchemy's
    InvalidRequestError where one of ``only`` does not exist.
    """
    return reflect_on(DEFAULT, schema=schema, only=only, views=views, snapshot=snapshot)


def reflect_on(
    holder: Holder,
    *,
    schema: str | None = None,
    only: Sequence[str] | None = None,
    views: bool = False,
    snapshot: str | Path | None = None,
) -> MetaData:
    """``reflect``, on the database of ``holder``."""
    if isinstance(only, str):
        raise TypeError(f"only of {holder.called}.reflect is a list of tables, not one: [{only!r}]")
    now = holder.current()
    if now.settings.engine_kind.lacks:
        from db.transactions.refusals import require_call

        with holder.named():
            require_call(now.settings)
    key = (schema, None if only is None else tuple(only), views, snapshot and str(snapshot))
    with _lock:
        known = _reflected.setdefault(now, {})
    if key not in known:
        # Not under the lock, as it waits, and other tasks may run meanwhile: who comes then asks as well, and is given
        # what the first one found.
        found = _read(now, schema, only, views=views) if snapshot is None else load_snapshot(Path(snapshot))
        known.setdefault(key, found)
    return known[key]


def _read(now: Runtime, schema: str | None, only: Sequence[str] | None, *, views: bool) -> MetaData:
    metadata = MetaData()
    in_transactions = now.settings.proxy != "none" and now.settings.schema
    # Autocommit: each question is one trip. Behind a proxy it is a transaction that knows DB_SCHEMA.
    options: dict[str, Any] = {} if in_transactions else {"isolation_level": "AUTOCOMMIT"}
    with now.engine("reader", asynchronous=on_loop()).connect().execution_options(**options) as conn:
        metadata.reflect(conn, schema=schema, only=only, views=views)
    return metadata


def save_snapshot(metadata: MetaData, path: str | Path) -> None:
    """Write ``metadata`` to ``path`` for ``reflect(snapshot=path)``, as a step of the build."""
    Path(path).write_bytes(_FORMAT + pickle.dumps(metadata))


def load_snapshot(path: Path) -> MetaData:
    """What ``save_snapshot`` wrote."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError([f"no snapshot of the schema at {path}: {error.strerror}"]) from error
    header, pickled = content[: len(_FORMAT)], content[len(_FORMAT) :]
    if header != _FORMAT:
        release = sqlalchemy.__version__
        raise ConfigurationError([f"{path} is no snapshot that SQLAlchemy {release} wrote: write it again"])
    metadata = pickle.loads(pickled)  # noqa: S301 - a file of the function's own artifact
    assert isinstance(metadata, MetaData)  # noqa: S101 - the header says so
    return metadata
