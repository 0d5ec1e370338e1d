"""``python -m db.migrations lint``: the lint of ``contract``, for the revisions in alembic.ini, or in folders given."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from db.environment.commands import run

from .contract import findings, revisions
from .runner import config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .contract import Finding

_INI = Path("alembic.ini")


def main(arguments: Sequence[str] | None = None) -> int:
    """Lint; 0 where nothing was found, 1 where something was, 2 where there was nothing to read."""
    parser = argparse.ArgumentParser(prog="python -m db.migrations")
    commands = parser.add_subparsers(required=True, metavar="command")
    about = "what new revisions take away from the release before, or lock, without a line that says why"
    lint = commands.add_parser("lint", help=about, description=about)
    lint.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="of revisions; default: those that alembic.ini names"
    )
    lint.add_argument("--after", metavar="REVISION", help="leave out this revision and those before it")
    given = parser.parse_args(arguments)
    try:
        return _lint(given.folders, given.after)
    except CommandError as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _lint(folders: list[Path], after: str | None) -> int:
    folders = folders or _of_alembic()
    passed = _until(folders, after) if after else set()
    read = [path for path in revisions(folders) if path.resolve() not in passed]
    if not read and not passed:
        # A misspelt folder is not to look like one without a fault.
        raise CommandError(f"no revision in {', '.join(map(str, folders)) or 'what alembic.ini names'}")
    found = [str(finding) for path in read for finding in _found(path)]
    found.append(f"{len(read)} revisions read, {len(found)} changes without a reason")
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if len(found) > 1 else 0


def _found(path: Path) -> list[Finding]:
    try:
        return findings(path)
    except SyntaxError as error:
        raise CommandError(f"{path}:{error.lineno or 1}: {error.msg}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: {error}") from error


def _of_alembic() -> list[Path]:
    if not _INI.is_file():
        raise CommandError(f"no {_INI} here: name the folder of the revisions")
    here = Path.cwd()
    try:
        found = {Path(one.path).parent for one in ScriptDirectory.from_config(Config(_INI)).walk_revisions()}
    except CommandError:
        raise
    except Exception as error:
        # Alembic runs the files to learn their order; what one of them raises may be anything.
        raise CommandError(f"{_INI}: Alembic cannot load what it names: {type(error).__name__}: {error}") from error
    return sorted(path.relative_to(here) if path.is_relative_to(here) else path for path in found)


def _until(folders: list[Path], revision: str) -> set[Path]:
    """The files of ``revision`` and of those before it."""
    script = ScriptDirectory.from_config(config("\n".join(str(folder.resolve()) for folder in folders)))
    try:
        script.get_revision(revision)  # raises where there is none
    except CommandError:
        raise
    except KeyError as error:  # all that Alembic says of a revision whose predecessor it does not find
        raise CommandError(
            f"no file of revision {error}, after which another one comes: name its folder too"
        ) from error
    except Exception as error:  # what one of the files raises, which Alembic runs to learn their order
        raise CommandError(f"Alembic cannot load the revisions: {type(error).__name__}: {error}") from error
    return {Path(found.path).resolve() for found in script.iterate_revisions(revision, "base")}


if __name__ == "__main__":
    run(main)
