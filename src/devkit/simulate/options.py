"""What can be said to ``python -m devkit simulate``, without what it takes to do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

ENVIRONMENTS, SEED = 100, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All of it."""
    parser.add_argument("scenario", nargs="*", help="default: all but hour")
    text = f"how many; default: {ENVIRONMENTS}"
    parser.add_argument("--environments", type=int, default=ENVIRONMENTS, metavar="N", help=text)
    parser.add_argument("--seed", type=int, default=SEED, metavar="N", help=f"default: {SEED}")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
