"""``python -m db check``: what would break in production, before it does, for people and for machines."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from db.errors import ConfigurationError
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
    given = parser.parse_args(arguments)
    try:
        database = Database.from_env(prefix=given.prefix) if given.prefix else None
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    report = check(database)
    sys.stdout.write(json.dumps(report.as_dict(), indent=2) if given.json else str(report))
    sys.stdout.write("\n")
    return report.status


if __name__ == "__main__":
    sys.exit(main())
