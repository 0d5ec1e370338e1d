"""What can be said to ``python -m devkit simulate``, without what it takes to do it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

ENVIRONMENTS, SEED = 100, 1
REAL_ENVIRONMENTS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All of it."""
    parser.add_argument("scenario", nargs="*", help="default: all but hour; a wrong name is answered with all names")
    parser.add_argument(
        "--environments",
        type=int,
        metavar="N",
        help=f"how many; default: {ENVIRONMENTS}, and {REAL_ENVIRONMENTS} real ones with --validate",
    )
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help=f"default: {SEED}")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    parser.add_argument("--validate", action="store_true", help="beside the fleet of real processes, with the ratios")
    parser.add_argument("--questions", action="store_true", help="what docs/run/sizing.md answers: numbers and plots")
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="where to keep what --validate or --questions found"
    )
