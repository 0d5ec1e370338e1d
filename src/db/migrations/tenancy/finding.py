"""What an audit found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that does not keep tenants apart, or not surely.

    ``kind`` is a word for it, the same for each of its kind, ``subject`` the table, role or other object by its name,
    ``problem`` and ``remedy`` a sentence each.
    """

    kind: str
    subject: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.problem} ({self.kind}). {self.remedy}"
