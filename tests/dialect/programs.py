"""Which programs are tried: lists of the names of steps, at random, with what matters most more often."""

from __future__ import annotations

from hypothesis import strategies as st

from .twins import ALARMS, LEVELS, LISTENERS
from .verbs import AS_TEXT, BLOCKS, DRIVER, EXCEPTIONS, QUESTIONS, SETTERS, TWO_PHASE, WORK

OPENINGS = ["open", "open unit", *(f"open {level}" for level in LEVELS)]
ENTRANCES = [f"enter {name}" for name in BLOCKS]
EXITS = [f"leave {how}".strip() for how in EXCEPTIONS]
COMMON = ["begin_nested", "release", "undo", "commit", "rollback", "insert", "select", "execute", "status", "close"]
# An alarm takes a quarter of a second: psycopg looks for signals ten times a second.
RARE = [*ALARMS, *["kill"] * 12, *["begin"] * 8, *["fetch"] * 16]

STEPS: st.SearchStrategy[str] = st.one_of(
    *(st.sampled_from(COMMON) for _ in range(4)),
    *(st.sampled_from(names) for names in (ENTRANCES, EXITS) for _ in range(2)),
    *(
        st.sampled_from(sorted(names))
        for names in (WORK, DRIVER, AS_TEXT, QUESTIONS, SETTERS, TWO_PHASE, OPENINGS, [*LISTENERS, "dispose"], RARE)
    ),
)
PROGRAMS = st.lists(STEPS, min_size=3, max_size=25)
