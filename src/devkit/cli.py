"""The commands: ``python -m devkit demo``, ``sam-local``, ``settings``."""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit status is 0 where every event was answered as its case expects."""
    parser = argparse.ArgumentParser(prog="devkit", description=__doc__)
    parser.add_argument("command", choices=["demo", "sam-local", "settings"])
    chosen = parser.parse_args(arguments).command
    if chosen == "demo":
        from . import demo

        return demo.run()
    if chosen == "settings":
        from .settings_table import as_markdown

        print(as_markdown())
        return 0
    from . import sam_local

    return sam_local.run()


if __name__ == "__main__":
    sys.exit(main())
