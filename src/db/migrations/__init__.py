"""Migrations: Alembic under an advisory lock, for a function that migrates at deploy; ``alembic.ini`` for work by hand.

``operations`` is what a migration calls; ``lock`` lets one runner through at a time, by a ``lease`` where an engine has
no lock, and ``pooler`` none that would share its session with other clients; ``runner`` calls Alembic, which loads
``env`` and the template of a new migration, ``script.py.mako``; ``lineage`` writes down what a schema has been through,
for code that is rolled back to; ``named`` finds what alembic.ini or a command line names. It runs as the tables' owner,
whom ``roles`` can make beforehand. ``tenancy`` audits whether tenants are apart; ``preflight`` is ``db.check``, of
which that is a part.

``contract`` is the lint of new revisions, by what ``contract_ops``, ``contract_sql`` and ``contract_values`` read in
them; ``__main__`` is its command. None of that is loaded by what runs in Lambda.

It stands on all rooms below, and no handler loads it but the one that migrates. What a migration may call goes into
``operations``, under a name of its own for each new meaning: a migration that has run must mean the same tomorrow.
"""

import typing as _typing  # not from it, as that would be a name of the face
from importlib import import_module as _import_module

if _typing.TYPE_CHECKING:
    from .lock import locked_connection
    from .roles import make_roles
    from .runner import Upgraded, config, upgrade
    from .tenancy import Finding, audit

__all__ = ["Finding", "Upgraded", "audit", "config", "locked_connection", "make_roles", "upgrade"]

# Alembic is half of what `python -m db check` would load, and neither that nor a migration's own imports need it.
_ROOMS = {
    "Finding": "tenancy",
    "Upgraded": "runner",
    "audit": "tenancy",
    "config": "runner",
    "locked_connection": "lock",
    "make_roles": "roles",
    "upgrade": "runner",
}

if not _typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _ROOMS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(_import_module(f".{_ROOMS[name]}", __name__), name))
