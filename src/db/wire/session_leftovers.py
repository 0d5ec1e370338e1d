"""What makes a session fit for its next user, after one that left settings, locks or temporary tables on it. Pure."""

# DISCARD ALL, which is refused next to other statements, in the parts that are not, as its page has them in this order:
# https://www.postgresql.org/docs/18/sql-discard.html
CLEANING = (
    b"CLOSE ALL",
    b"SET SESSION AUTHORIZATION DEFAULT",
    b"RESET ALL",
    b"DEALLOCATE ALL",
    b"UNLISTEN *",
    b"SELECT pg_advisory_unlock_all()",
    b"DISCARD TEMP",
    b"DISCARD SEQUENCES",
)
