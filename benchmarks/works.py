"""What each peer does, and the two tables that it does it to."""

from __future__ import annotations

import time
from enum import StrEnum

TENANT = "acme"
NOTE = 1
# What a function is given, and what it keeps for its answer. Longer than any batch of samples takes.
INVOCATION_S = 20.0
RESERVE_MS = 500


class Work(StrEnum):
    """One unit of work. Bound means: for one tenant, and no longer than the invocation has left."""

    FIRST = "first transaction"
    NOTHING = "transaction of nothing"
    READ = "read"
    WRITE = "write"
    KNOWN = "write known up front"
    FIVE = "five statements"
    BOUND_READ = "bound read"
    BOUND_WRITE = "bound write"
    UNPOOLED = "bound write, own connection"
    # Not of one transaction, and measured by sections of their own.
    BATCH = "batch of 100 records"
    SPOILED = "batch of 100 records, 10 of them bad"
    LOAD_SOME = "load of 100,000 rows"
    LOAD = "load of 1,000,000 rows"


# How often each transaction leaves its mark on the plain note, and on the tenant's.
HITS = {
    Work.FIRST: (1, 0),
    Work.NOTHING: (0, 0),
    Work.READ: (0, 0),
    Work.WRITE: (1, 0),
    Work.KNOWN: (1, 0),
    Work.FIVE: (2, 0),
    Work.BOUND_READ: (0, 0),
    Work.BOUND_WRITE: (0, 1),
    Work.UNPOOLED: (0, 1),
}
TRANSACTIONS = tuple(HITS)

# A third of each page stays free, so that updates in place stay in place however many there are.
TABLES = f"""
CREATE TABLE notes (id int PRIMARY KEY, hits int NOT NULL) WITH (fillfactor = 66);
CREATE TABLE tenant_notes (
    tenant_id text NOT NULL, id int NOT NULL, hits int NOT NULL, PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 66);
ALTER TABLE tenant_notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON tenant_notes USING (tenant_id = current_setting('app.tenant_id', true));
INSERT INTO notes VALUES ({NOTE}, 0);
INSERT INTO tenant_notes VALUES ('{TENANT}', {NOTE}, 0), ('globex', {NOTE}, 0);
"""  # noqa: S608 - constants


class Context:
    """The context of one Lambda invocation, as far as anyone here asks it."""

    aws_request_id = "5f1d0c8e-7a43-4f5e-9d55-2d1b6a0c9e11"

    def __init__(self) -> None:
        self._ends_at = time.time() + INVOCATION_S

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""
        return int((self._ends_at - time.time()) * 1000)


def statement_timeout(context: Context) -> str:
    """What is left for a statement, as PostgreSQL writes it."""
    return f"{context.get_remaining_time_in_millis() - RESERVE_MS}ms"
