"""How a server is asked how far behind it is, at no trip of its own: one more column of a statement that goes anyway.

Streaming replicas and Aurora's have different functions for it, and neither has the other's, so that a statement which
names both is refused. Which kind it is shows in the first answer.
"""

from __future__ import annotations

# In the place of seconds, what Aurora answers to the question that is put to others. No lag is below zero.
IS_AURORA = -1.0
# Seconds since the last transaction that a standby has replayed, where there is one that it has not; without an end
# where it has replayed none since its start. A standby that its primary cannot reach does not know what it has missed,
# and says 0. Aurora refuses these functions, and is told by what
# AWS's own drivers tell it by: the functions that it alone has are named among its extensions.
ASK = b""", CASE WHEN current_setting('rds.extensions', true) LIKE '%aurora_stat_utils%' THEN -1
 WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn()
 THEN coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 'Infinity') ELSE 0 END"""
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora_replica_status.html: a writer has no lag there.
ASK_AURORA = b""", (SELECT max(replica_lag_in_msec) / 1000 FROM aurora_replica_status()
 WHERE server_id = aurora_db_instance_identifier())"""
# For a driver that is told no rows, but how many there were: none where the lag is no more than $1, one by Aurora, and
# else one more than it is in whole seconds, up to an hour beyond $1.
_IN_ROWS = b"""SELECT FROM (SELECT CAST(%b AS float8), CAST($1 AS float8)) AS it (lag_s, max_s), generate_series(1,
 CASE WHEN lag_s < 0 THEN 1 WHEN lag_s > max_s THEN 1 + least(ceil(lag_s), ceil(max_s) + 3600)::int ELSE 0 END)"""


def in_rows(question: bytes) -> bytes:
    """``question``, one of those above, as a statement whose answer is a number of rows; the most allowed is $1."""
    return _IN_ROWS % question.removeprefix(b", ")


def lag_of(rows: int) -> float:
    """What the number of rows says, as the question would have been answered; 0 for a reader that is near."""
    return IS_AURORA if rows == 1 else float(max(rows - 1, 0))
