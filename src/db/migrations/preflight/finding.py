"""What a check found, as a table for people and as values for machines."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import Any, Literal

from db.errors import DOCUMENTATION

Level = Literal["ok", "not applicable", "warning", "error"]
_STATUS: dict[Level, int] = {"ok": 0, "not applicable": 0, "warning": 1, "error": 2}
_COLUMNS = 100  # of a table's sentences


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at: ``subject`` is a word for it, ``seen`` what is so, ``remedy`` what to do about it.

    ``page`` is the address of the document that says more. No value of a setting that may be secret is in it.
    """

    subject: str
    level: Level
    seen: str
    remedy: str | None = None
    page: str | None = None


def ok(subject: str, seen: str) -> Finding:
    """All is well with it."""
    return Finding(subject=subject, level="ok", seen=seen)


def not_applicable(subject: str, why: str) -> Finding:
    """It was not looked at, and why."""
    return Finding(subject=subject, level="not applicable", seen=why)


def warning(subject: str, seen: str, remedy: str, page: str) -> Finding:
    """It works, and will not always; ``page`` is within the documentation."""
    return Finding(subject=subject, level="warning", seen=seen, remedy=remedy, page=DOCUMENTATION + page)


def error(subject: str, seen: str, remedy: str, page: str) -> Finding:
    """It does not work, or does not do what it is there for."""
    return Finding(subject=subject, level="error", seen=seen, remedy=remedy, page=DOCUMENTATION + page)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that one check found. ``settings`` says of each setting where its value comes from, and not the value."""

    database: str
    settings: dict[str, str]
    findings: tuple[Finding, ...]

    @property
    def status(self) -> int:
        """For a process to exit with: 0 where nothing is to be done, 1 for warnings, 2 for errors."""
        return max((_STATUS[finding.level] for finding in self.findings), default=0)

    def as_dict(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {
            "database": self.database,
            "status": self.status,
            "settings": dict(self.settings),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        width = max((len(finding.subject) for finding in self.findings), default=0)
        lines = [line for finding in self.findings for line in _lines(finding, width)]
        said = [f"{name} from {origin}" for name, origin in self.settings.items() if origin != "default"]
        if said:
            lines += ["", *textwrap.wrap(f"Settings: {', '.join(said)}; all others have their default.", _COLUMNS)]
        levels = [finding.level for finding in self.findings]
        lines += ["", f"{self.database}: errors: {levels.count('error')}, warnings: {levels.count('warning')}"]
        return "\n".join(lines)


def _lines(finding: Finding, width: int) -> list[str]:
    indent = " " * (len("not applicable") + width + 4)
    first = f"{finding.level:14}  {finding.subject:{width}}  "
    further = [part for part in (finding.remedy, finding.page) if part]
    lines = textwrap.wrap(
        finding.seen,
        _COLUMNS + len(indent),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for part in further:
        lines += textwrap.wrap(
            part,
            _COLUMNS + len(indent),
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
