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
    from .deploys.target import Target


# As a shell says it of a program that SIGINT has ended.
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 where all was as expected, 1 where it was not, 2 where it could not begin, 130 interrupted."""
    given = _parser().parse_args(arguments)
    try:
        status: int = given.run(given)
    except (MissingPackageError, ProjectError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devkit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, run, text in (
        ("demo", _demo, "every event of an application through its handler in the real Lambda runtime"),
        ("build", _build, "sam build, and whether its artifacts are of the Python that the template names"),
        ("sam-local", _sam_local, "sam build, then every event through sam local invoke, in Docker"),
        (
            "rehearse",
            _rehearse,
            "sam build, then the deploys from the first to the last, against a local CloudFormation",
        ),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--root", type=Path, metavar="DIR", help="the application's folder; default: the nearest with a template"
        )
        _add_runtime(command)
        command.set_defaults(run=run)
    text = "the HTTP routes of an application on localhost, in the real Lambda runtime"
    serve = commands.add_parser("serve", help=text, description=text)
    serve.add_argument("--root", type=Path, metavar="DIR", help="the application's folder")
    serve.add_argument("--port", type=int, help="0 for any that is free; default: 3000")
    _add_runtime(serve)
    serve.set_defaults(run=_serve)
    text = "an application's migrations on an empty server, audited, then python -m db check as each of its functions"
    check = commands.add_parser("check", help=text, description=text)
    check.add_argument("--root", type=Path, metavar="DIR", help="the application's folder")
    check.add_argument("--allowed", metavar="MODULE:NAME", help="its exceptions, as python -m db check takes them")
    _add_runtime(check)
    check.set_defaults(run=_check)
    _add_plan(commands)
    _add_simulate(commands)
    _add_deploys(commands)
    text = "the table of settings, in Markdown"
    commands.add_parser("settings", help=text, description=text).set_defaults(run=_settings)
    text = "what each call, capability and setting is on each database engine, in Markdown"
    commands.add_parser("engines", help=text, description=text).set_defaults(run=_engines)
    text = "hundreds of execution environments at once under what Lambda and the network do to them"
    fleet = commands.add_parser("fleet", help=text, description=text)
    fleet.add_argument("scenario", nargs="*", help="default: all")
    fleet.add_argument("--results", type=Path, metavar="DIR", help="where to keep what the scenarios came to")
    fleet.add_argument("--fuzz", type=Path, metavar="TEST", help="a test of FUZZ_EXAMPLES events, as a scenario")
    fleet.set_defaults(run=lambda given: _fleet(fleet, given))
    return parser


def _add_plan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Its options are its own; what they bring is light, so that every command may name them."""
    from .plan.options import add_arguments

    text = "whether the connections that a template's functions may hold fit into what their database takes"
    plan = commands.add_parser("plan", help=text, description=text)
    add_arguments(plan)
    plan.set_defaults(run=_plan)


def _add_simulate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Likewise."""
    from .simulate.options import add_arguments

    text = "what up to 10,000 environments would do to a database, by simulation"
    simulate = commands.add_parser("simulate", help=text, description=text)
    add_arguments(simulate)
    simulate.set_defaults(run=lambda given: _simulate(simulate, given))


def _add_deploys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """What an account is asked and told. They share where that is."""
    for name, run, text in (
        ("account", _account, "what an account has and lacks for a deploy; changes nothing there"),
        ("certs", _certs, "fetch the authorities of RDS's certificates into layer/certs"),
        ("database", _database, "deploy database.yaml: a network, a database and its secrets"),
        ("deploy", _deploy, "build and deploy template.yaml, with what the database's stack puts out"),
        ("destroy", _destroy, "delete the application's stack, and the database's where that is said"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="the application's folder")
        command.add_argument("--env", default="dev", help="deploy/ENV.toml and its stacks; default: dev")
        command.set_defaults(run=run)
        if name == "deploy":
            _add_runtime(command)
        if name == "certs":
            command.add_argument("--url", help="another bundle, such as that of one region")
        if name == "destroy":
            command.add_argument("--database", action="store_true", help="the database's stack as well")
            command.add_argument("--yes", action="store_true", help="ask no question")


def _add_runtime(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--runtime", metavar="PYTHON", help="the Python that the functions are for, where that is not the template's"
    )


def _account(given: argparse.Namespace) -> int:
    target = _target(given)
    from .deploys import account

    return account.run(target)


def _certs(given: argparse.Namespace) -> int:
    from .deploys import certificates

    return certificates.fetch(given.root.resolve(), given.url or certificates.URL)


def _database(given: argparse.Namespace) -> int:
    target = _target(given)
    from .deploys import database

    return database.run(target)


def _deploy(given: argparse.Namespace) -> int:
    target = _target(given)
    from .deploys import application

    return application.run(target, _runtime(given))


def _destroy(given: argparse.Namespace) -> int:
    target = _target(given)
    from .deploys import removal

    return removal.run(target, database=given.database, agreed=given.yes)


def _target(given: argparse.Namespace) -> Target:
    require("sam")
    from .deploys.target import Target

    return Target.read(given.root.resolve(), given.env)


def _demo(given: argparse.Namespace) -> int:
    require("sam")
    from .app import demo

    return _of_a_project(given, demo.run)


def _build(given: argparse.Namespace) -> int:
    require("sam")
    from .app import sam_cli

    return _of_a_project(given, sam_cli.run)


def _sam_local(given: argparse.Namespace) -> int:
    require("sam")
    from .app import sam_local

    return _of_a_project(given, sam_local.run)


def _serve(given: argparse.Namespace) -> int:
    require("sam")
    from .app import serve

    port = serve.PORT if given.port is None else given.port
    return _of_a_project(given, lambda project: serve.run(project, port=port))


def _check(given: argparse.Namespace) -> int:
    require("sam")
    from .app import checked

    return _of_a_project(given, lambda project: checked.run(project, allowed=given.allowed))


def _rehearse(given: argparse.Namespace) -> int:
    require("sam")
    from .rehearsal import command

    return _of_a_project(given, command.run)


def _of_a_project(given: argparse.Namespace, run: Callable[[Project], int]) -> int:
    from .app.project import Project

    runtime = _runtime(given)
    return run(Project.find(runtime=runtime) if given.root is None else Project.at(given.root, runtime=runtime))


def _runtime(given: argparse.Namespace) -> str | None:
    from .app.runtime import asked_for

    return None if given.runtime is None else asked_for(given.runtime)


def _plan(given: argparse.Namespace) -> int:
    require("sam")
    from .plan import command

    return command.run(given)


def _simulate(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    require("simulate")
    from .simulate import command
    from .simulate.scenarios import SCENARIOS

    if given.validate:
        require("fleet")
    if unknown := set(given.scenario) - SCENARIOS.keys():
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}: they are {', '.join(SCENARIOS)}")
    return command.run(given)


def _settings(_: argparse.Namespace) -> int:
    from .settings_table import as_markdown

    print(as_markdown())
    return 0


def _engines(_: argparse.Namespace) -> int:
    from .engines_table import as_markdown

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
