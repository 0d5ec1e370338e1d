"""Alembic under an advisory lock: ``upgrade`` for a function that migrates at deploy; ``alembic.ini`` for work by hand.

Runs as the tables' owner. ``operations`` is what a migration writes; ``lock`` lets one runner through at a time;
``runner`` calls Alembic, and Alembic loads ``env`` and ``script.py.mako``. Stands on all rooms below, and no handler loads
it but the one that migrates. What a migration may call belongs into ``operations``, under a name of its own for each
new meaning, for a migration that has run must mean the same tomorrow.
"""

from .lock import locked_connection
from .runner import Upgraded, config, upgrade

__all__ = ["Upgraded", "config", "locked_connection", "upgrade"]
