"""``python -m db check``: what would break in production, before it does, for people and for machines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from db.environment.commands import run
from db.errors import ConfigurationError
from db.migrations.named import look_up, wrong
from db.migrations.preflight import check
from db.work.database import Database

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Check; 0 where nothing is to be done, 1 for warnings, 2 for errors."""
    parser = argparse.ArgumentParser(prog="python -m db")
    commands = parser.add_subparsers(required=True, metavar="command")
    about = "look at settings, packages, the way in, the server, and tenants"
    command = commands.add_parser("check", help=about, description=about)
    command.add_argument("--json", action="store_true", help="for machines, in the place of a table")
    command.add_argument("--prefix", metavar="PREFIX", help="of another database's settings, such as AUDIT_DB_")
    command.add_argument(
        "--allowed",
        metavar="MODULE:NAME",
        help="a mapping in your code: findings about tenants that are meant to be, each with its reason",
    )
    given = parser.parse_args(arguments)
    try:
        database = Database.from_env(prefix=given.prefix) if given.prefix else None
        report = check(database, allowed=_exceptions(given.allowed) if given.allowed else None)
    except (ConfigurationError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(report.as_dict(), indent=2) if given.json else str(report))
    sys.stdout.write("\n")
    return report.status


def _exceptions(named: str) -> Mapping[str, str]:
    said = f"--allowed {named}"
    # `python -m` looks here first, as servers that are given such a name do.
    found: Any = look_up(named, said=said, example="audits:ALLOWED", where="looked for here and where Python does")
    if not isinstance(found, Mapping) or not all(isinstance(one, str) for pair in found.items() for one in pair):
        raise wrong(said, f"that is of type {type(found).__name__}, and not a mapping of findings' names to reasons")
    return found


if __name__ == "__main__":
    run(main)
