"""The kit's commands. Each one's heavy imports are its own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .app.errors import ProjectError
from .extras import MissingPackageError, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from .app.project import Project


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 where all was as expected, 1 where it was not, 2 where it could not begin."""
    given = _parser().parse_args(arguments)
    try:
        status: int = given.run(given)
    except (MissingPackageError, ProjectError) as error:
        print(error, file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devkit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, run, text in (
        ("demo", _demo, "every event of an application through its handler in the real Lambda runtime"),
        ("sam-local", _sam_local, "sam build, then every event through sam local invoke, in Docker"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--root", type=Path, metavar="DIR", help="the application's folder; default: the nearest with a template"
        )
        command.set_defaults(run=run)
    text = "the HTTP routes of an application on localhost, in the real Lambda runtime"
    serve = commands.add_parser("serve", help=text, description=text)
    serve.add_argument("--root", type=Path, metavar="DIR", help="the application's folder")
    serve.add_argument("--port", type=int, help="0 for any that is free; default: 3000")
    serve.set_defaults(run=_serve)
    text = "the table of settings, in Markdown"
    commands.add_parser("settings", help=text, description=text).set_defaults(run=_settings)
    text = "hundreds of execution environments at once under what Lambda and the network do to them"
    fleet = commands.add_parser("fleet", help=text, description=text)
    fleet.add_argument("scenario", nargs="*", help="default: all")
    fleet.add_argument("--results", type=Path, metavar="DIR", help="where to keep what the scenarios came to")
    fleet.add_argument("--fuzz", type=Path, metavar="TEST", help="a test of FUZZ_EXAMPLES events, as a scenario")
    fleet.set_defaults(run=lambda given: _fleet(fleet, given))
    return parser


def _demo(given: argparse.Namespace) -> int:
    require("sam")
    from .app import demo

    return _of_a_project(given.root, demo.run)


def _sam_local(given: argparse.Namespace) -> int:
    require("sam")
    from .app import sam_local

    return _of_a_project(given.root, sam_local.run)


def _serve(given: argparse.Namespace) -> int:
    require("sam")
    from .app import serve

    port = serve.PORT if given.port is None else given.port
    return _of_a_project(given.root, lambda project: serve.run(project, port=port))


def _of_a_project(root: Path | None, run: Callable[[Project], int]) -> int:
    from .app.project import Project

    return run(Project.find() if root is None else Project.at(root))


def _settings(_: argparse.Namespace) -> int:
    from .settings_table import as_markdown

    print(as_markdown())
    return 0


def _fleet(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    require("fleet")
    from .fleet import command

    known = command.known(given.fuzz)
    if unknown := set(given.scenario) - known.keys():
        why = f" ({command.FUZZ} takes --fuzz)" if command.FUZZ in unknown else ""
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}: they are {', '.join(known)}{why}")
    return command.run(given.scenario, results=given.results, fuzzed_by=given.fuzz)


if __name__ == "__main__":
    sys.exit(main())
