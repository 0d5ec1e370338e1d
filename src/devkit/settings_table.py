"""The table of settings as docs/reference/settings.md shows it, for the command ``settings``."""

from __future__ import annotations

import dataclasses

from db.settings import PREFIX, fields


def as_markdown() -> str:
    """The table for docs/reference/settings.md."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for f in fields():
        default = {} if f.default is dataclasses.MISSING else f.default
        shown = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        floor, choices = f.metadata["floor"], f.metadata["kind"].names
        limit = f" At least {floor:g}." if floor else ""
        limit += f" One of {', '.join(f'`{name}`' for name in choices)}." if choices else ""
        page = f.metadata["page"]
        more = f" [More](../{page})." if page else ""
        cells = (f"`{PREFIX}{f.name.upper()}`", f"`{shown}`" if shown else "", f.metadata["sentence"] + limit + more)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
