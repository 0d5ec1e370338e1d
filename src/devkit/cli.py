"""The commands: ``python -m devkit demo``, ``sam-local``, ``settings``, ``fleet [scenario …]``."""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit status is 0 where every event was answered as its case expects, every target met."""
    parser = argparse.ArgumentParser(prog="devkit", description=__doc__)
    parser.add_argument("command", choices=["demo", "sam-local", "settings", "fleet"])
    parser.add_argument("scenario", nargs="*", help="of fleet; default: all")
    given = parser.parse_args(arguments)
    chosen = given.command
    if given.scenario and chosen != "fleet":
        parser.error(f"{chosen} takes no scenario")
    if chosen == "demo":
        from .app import demo

        return demo.run()
    if chosen == "settings":
        from .settings_table import as_markdown

        print(as_markdown())
        return 0
    if chosen == "fleet":
        return _fleet(parser, given.scenario)
    from .app import sam_local

    return sam_local.run()


def _fleet(parser: argparse.ArgumentParser, names: list[str]) -> int:
    from .fleet import command
    from .fleet.scenarios import SCENARIOS

    if unknown := set(names) - SCENARIOS.keys():
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}: they are {', '.join(SCENARIOS)}")
    return command.run(names)


if __name__ == "__main__":
    sys.exit(main())
