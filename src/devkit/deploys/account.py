"""``make account``: what an account has and lacks for a deploy, in a table. It changes nothing there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import NoCredentialsError, NoRegionError

from devkit.app.errors import ProjectError
from devkit.app.sam_cli import program
from devkit.app.template import Template

from . import application, certificates, concurrency, database, network, parameters, stacks, versions
from .asking import NO_REGION, Account, RefusedError
from .target import DATABASE_TEMPLATE, EXAMPLE, FOLDER, TEMPLATE, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .stacks import Stack

# What is there; what one of the commands to come makes; what somebody has to do first; what could not be asked.
OK, LATER, MISSING, UNKNOWN = "ok", "later", "missing", "unknown"
PROGRAMS = ("sam", "uv")
RENEW = "credentials that AWS takes: `aws sso login`, or new keys"


@dataclass(frozen=True)
class Finding:
    """A row: the ``state`` of a ``thing``, what was ``seen`` of it, and the command or act that mends it."""

    thing: str
    state: str
    seen: str
    remedy: str = ""


def run(target: Target) -> int:
    """Print the table; 0 where a deploy can begin, 1 where somebody has to do something first."""
    target, copied = with_file(target)
    found = [*copied, *findings(target)]
    print(f"{target.name}: the stacks {target.stack} and {target.database_stack}\n")
    print(as_text(found))
    if any(one.state == MISSING for one in found):
        print("\nA deploy cannot begin: see what is missing above.")
        return 1
    commands = dict.fromkeys([*(one.remedy for one in found if one.state == LATER), target.make("deploy")])
    print(f"\nNothing is in the way. Next: {', '.join(commands)}")
    return 0


def with_file(target: Target) -> tuple[Target, list[Finding]]:
    """The same with a file of its own, copied from the example where there is none."""
    if target.exists:
        return target, [Finding("file", OK, str(target.file))]
    example = target.root / FOLDER / EXAMPLE
    if not example.is_file():
        return target, [Finding("file", MISSING, f"neither {target.file} nor {FOLDER}/{EXAMPLE} is there")]
    try:
        shutil.copyfile(example, target.root / target.file)
    except OSError as error:
        raise ProjectError(f"{target.file} cannot be written: {error}") from error
    seen = f"{target.file}, a copy of {EXAMPLE} made just now; git does not know it"
    return Target.read(target.root, target.name), [Finding("file", OK, seen)]


def findings(target: Target) -> Iterator[Finding]:
    """What is asked, in the order of what needs what. The first answer that is missing may be the last."""
    yield from programs(target)
    account = Account(target)
    yield region(account, target)
    yield (who := credentials(account))
    if account.region is None or who.state != OK:
        return
    cloudformation = account.client("cloudformation")
    try:
        base = stacks.look(cloudformation, target.database_stack, target)
        top = stacks.look(cloudformation, target.stack, target)
    except ProjectError as error:
        yield Finding("stacks", MISSING, str(error), "credentials that may use CloudFormation")
        return
    template = Template(target.root / TEMPLATE)
    yield room(account, template, top, target)
    yield certificate(target)
    yield from database_values(target)
    yield stack(
        "database",
        base,
        target.make("destroy", "DATABASE=yes"),
        no_database(target, template),
        target.make("database"),
    )
    yield from application_values(account, target, template, None if stacks.is_empty(base) else base)
    yield stack(
        "application",
        top,
        target.make("destroy"),
        Finding("application", LATER, f"there is no stack {target.stack}", target.make("deploy")),
        target.make("deploy"),
    )


def programs(target: Target) -> Iterator[Finding]:
    """What a build calls."""
    for name in PROGRAMS:
        path = program(name)
        if path == name and shutil.which(name) is None:
            yield Finding(name, MISSING, "is nowhere", "make .venv/ready")
        else:
            inside = Path(path).is_relative_to(target.root)
            yield Finding(name, OK, str(Path(path).relative_to(target.root)) if inside else path)


def region(account: Account, target: Target) -> Finding:
    """Where the stacks go."""
    if account.region is None:
        return Finding("region", MISSING, "none is set", NO_REGION.partition(": ")[2].format(file=target.file))
    return Finding("region", OK, account.region)


def credentials(account: Account) -> Finding:
    """Whose they are."""
    try:
        number, who = account.identity()
    except RefusedError as error:
        return Finding("credentials", MISSING, str(error), RENEW)
    except ProjectError as error:
        if account.region is None and isinstance(error.__cause__, NoRegionError):
            return Finding("credentials", UNKNOWN, "nobody can be asked without a region")
        seen, _, remedy = str(error).partition(": ")
        told = isinstance(error.__cause__, NoCredentialsError) or error.__cause__ is None
        return Finding("credentials", MISSING, *((seen, remedy) if told else (str(error),)))
    return Finding("credentials", OK, f"{number}, {who}")


def room(account: Account, template: Template, top: Stack | None, target: Target) -> Finding:
    """For the template's reserved concurrency, which counts from the first deploy on."""
    thing, reserved = "concurrency", concurrency.reserved(template.content)
    if top is not None and top.status not in stacks.NEVER_DEPLOYED:
        return Finding(thing, OK, f"{target.stack} has what it reserves")
    try:
        there = concurrency.room(account.client("lambda"), target)
    except ProjectError as error:
        return Finding(thing, UNKNOWN, str(error), f"the template reserves {reserved}, and 100 must stay unreserved")
    seen = f"{there.unreserved} of {there.limit} unreserved; the template reserves {reserved}, 100 must stay"
    if there.takes(reserved):
        return Finding(thing, OK, seen)
    said = target.application.get(concurrency.PARAMETER)
    if concurrency.PARAMETER in template.parameters and said != "yes":
        return Finding(thing, OK, f"{seen}: so {target.make('deploy')} says {concurrency.PARAMETER}=no")
    return Finding(thing, MISSING, seen, concurrency.QUOTA)


def certificate(target: Target) -> Finding:
    """The authorities that a function trusts."""
    path = certificates.fetched(target.root)
    if path is None:
        return Finding("certificates", LATER, f"none in {certificates.FOLDER}", target.make("certs"))
    number = certificates.count(path.read_bytes())
    return Finding("certificates", OK, f"{path.relative_to(target.root)}, {number} of them")


def database_values(target: Target) -> Iterator[Finding]:
    """What the file says for database.yaml; a row only where it would be refused."""
    path = target.root / DATABASE_TEMPLATE
    try:
        if path.is_file():
            database.checked(Template(path), target)
    except ProjectError as error:
        yield Finding("database's values", MISSING, str(error))


def names_a_database(target: Target, template: Template) -> bool:
    """Whether the file has a value for all that a database's stack would put out and no default stands for."""
    return not parameters.missing(template.parameters, parameters.settled(template.parameters, target.application))


def no_database(target: Target, template: Template) -> Finding:
    """The row where there is no stack of it."""
    if names_a_database(target, template):
        return Finding("database", OK, f"{target.file} names one of your own")
    return Finding("database", LATER, f"there is no stack {target.database_stack}", target.make("database"))


def application_values(account: Account, target: Target, template: Template, base: Stack | None) -> Iterator[Finding]:
    """What the file and the database say for template.yaml; a row only where it would not do."""
    if base is None and not names_a_database(target, template):
        if problems := application.misread(template, target) + versions.problems(target, template):
            yield Finding("values", MISSING, "; ".join(problems))
        return
    # Certificates have a row of their own.
    derived = application.certificate(target) or {application.CERTIFICATE: "…"}
    try:
        values = application.checked(template, target, base, derived)
        dead_ends = network.problems(account.client("ec2"), values, target)
    except RefusedError as error:
        yield Finding("network", UNKNOWN, str(error))
    except ProjectError as error:
        yield Finding("values", MISSING, str(error))
    else:
        yield from (Finding("network", MISSING, problem) for problem in dead_ends)


def stack(thing: str, found: Stack | None, destroy: str, absent: Finding, deploy: str) -> Finding:
    """What CloudFormation says of it. ``destroy`` and ``deploy`` are the commands that do that to it."""
    if found is None:
        return absent
    if problem := stacks.in_the_way(found, destroy):
        seen, _, remedy = problem.partition(": ")
        return Finding(thing, MISSING, seen, remedy)
    if stacks.is_empty(found):
        seen = f"{found.name} is {found.status}, which the next command deletes before it begins"
        return Finding(thing, LATER, seen, deploy)
    return Finding(thing, OK, f"{found.name} is {found.status}")


def as_text(found: list[Finding]) -> str:
    """For a terminal: a row each, its remedy below it."""
    things, states = (max(len(getattr(one, name)) for one in found) for name in ("thing", "state"))
    indent = " " * (things + states + 6)
    return "\n".join(
        f"  {one.state:<{states}}  {one.thing:<{things}}  {one.seen}"
        + (f"\n{indent}→ {one.remedy}" if one.remedy else "")
        for one in found
    )
