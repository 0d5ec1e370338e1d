"""Migrations: Alembic under an advisory lock, for a function that migrates at deploy; ``alembic.ini`` for work by hand.

``operations`` is what a migration calls; ``lock`` lets one runner through at a time, by a ``lease`` where an engine has
no lock, and ``pooler`` none that would share its session with other clients; ``runner`` calls Alembic, which loads
``env`` and the template of a new migration, ``script.py.mako``; ``lineage`` writes down what a schema has been through,
for code that is rolled back to. It runs as the tables' owner, whom ``roles`` can make beforehand. ``tenancy`` audits
whether tenants are apart; ``preflight`` is ``db.check``, of which that is a part.

``contract`` is the lint of new revisions, by what ``contract_ops``, ``contract_sql`` and ``contract_values`` read in
them; ``__main__`` is its command. None of that is loaded by what runs in Lambda.

It stands on all rooms below, and no handler loads it but the one that migrates. What a migration may call goes into
``operations``, under a name of its own for each new meaning: a migration that has run must mean the same tomorrow.
"""

from .lock import locked_connection
from .roles import make_roles
from .runner import Upgraded, config, upgrade
from .tenancy import Finding, audit

__all__ = ["Finding", "Upgraded", "audit", "config", "locked_connection", "make_roles", "upgrade"]
