"""What the text of a statement tells of how it has to travel. Pure."""

from __future__ import annotations

import re

# What may share a flight: one statement, known by its first word. COPY breaks a pipeline, the text of two statements is
# refused by the extended protocol, and what ends or prepares the transaction must not be sent twice. The rest is sent
# behind an opening flight of its own, in psycopg's way, at one more trip.
_STANDS_APART = re.compile(
    r"[\s(]*(?:(?:copy|prepare|begin|start|commit|end|rollback|abort)\b|[^a-z\s(])|[\s(]*\Z", re.IGNORECASE
)


def may_share(text: str, *, has_params: bool) -> bool:
    """Whether a statement can travel behind BEGIN: a parameter proves that its text is one statement."""
    # A placeholder of the protocol's own would be met by another error there.
    return not _STANDS_APART.match(text) and (has_params or not (";" in text or "$1" in text))
