"""``make deploy``: builds template.yaml, and deploys it with what the database's stack puts out."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from devkit.app.errors import ProjectError
from devkit.app.intrinsics import section
from devkit.app.rules import excluded, violated
from devkit.app.template import Template
from devkit.plan import prose
from devkit.plan.planned import Asked, planned
from devkit.plan.stack import UnsaidError

from . import certificates, commands, concurrency, network, parameters, prices, stacks, versions
from .asking import Account, RefusedError
from .target import DATABASE_TEMPLATE, TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .stacks import Stack
    from .target import Target

MODE, CERTIFICATE = "SslMode", "SslRootCert"
PROXY, OF_ACM = "Proxy", "rds-proxy"
PLAN = "python -m devkit plan"
# Modes that compare the server's certificate with an authority's; empty is verify-full.
VERIFYING = ("", "verify-ca", "verify-full")


def run(target: Target, runtime: str | None = None) -> int:
    """Build and deploy; the last line is where it answers. An exit status. Raises ProjectError before the deploy."""
    target.check_file()
    account = Account(target)
    number, _ = account.identity()
    cloudformation = account.client("cloudformation")
    before = stacks.look(cloudformation, target.stack, target)
    stacks.check(cloudformation, before, target.make("destroy"), target)
    database = database_of(cloudformation, target)
    template = Template(target.root / TEMPLATE, runtime=runtime)
    derived = {**certificate(target), **reservation(account, template, before, target)}
    values = checked(template, target, database, derived)
    if told := connections(template, values, target, with_database=database is not None):
        print(f"Warning: {told}")
    print(f"The stack {target.stack} in the account {number}, {account.region}.")
    before = stacks.without_empty(cloudformation, before, target)
    for problem in dead_ends(account, values, target):
        print(f"Warning: {problem}.")
    if before is None:
        print(prices.as_text(prices.application(), prices.APPLICATION_WAIT))
    with commands.alone(target.root):
        status = commands.build(template) or deploy(target, values)
    after = stacks.look(cloudformation, target.stack, target)
    if status or after is None:
        reasons = stacks.why(cloudformation, target.stack, target)
        print("", stacks.failed(target.stack, after, reasons, target.make("destroy")), sep="\n")
        return status or 1
    print(f"\n{target.stack} is {after.status}.")
    print(shown(after, template))
    return 0


def deploy(target: Target, values: Mapping[str, str]) -> int:
    """`sam deploy` of what was built; its exit status."""
    with versions.published(target, values):
        return commands.sam(target.root, *command(target, values))


def database_of(cloudformation: Any, target: Target) -> Stack | None:
    """The stack whose outputs are taken; None where there is none. Raises ProjectError where it has none to give."""
    found = stacks.look(cloudformation, target.database_stack, target)
    stacks.check(cloudformation, found, target.make("destroy", "DATABASE=yes"), target)
    if found is not None and stacks.is_empty(found):
        raise ProjectError(
            f"{found.name} is {found.status}: its first deploy failed. {target.make('database')} makes it anew,"
            " and then this again"
        )
    return found


def command(target: Target, values: Mapping[str, str]) -> list[str]:
    """What is said once, as the bucket and the capabilities, stands in samconfig.toml."""
    return [
        *("deploy", "--stack-name", target.stack, *target.where(), "--no-confirm-changeset"),
        *commands.overrides(values),
    ]


def certificate(target: Target) -> dict[str, str]:
    """The bundle that ``make certs`` fetched, by the name that a function finds it under."""
    found = certificates.fetched(target.root)
    return {CERTIFICATE: certificates.in_lambda(found)} if found else {}


def reservation(account: Account, template: Template, before: Stack | None, target: Target) -> dict[str, str]:
    """A new account has no room for what the template reserves; a stack that is there stays as it is."""
    name = concurrency.PARAMETER
    reserved = concurrency.reserved(template.content)
    if name not in template.parameters or name in target.application or not reserved:
        return {}
    if before is not None and not stacks.is_empty(before):
        return {name: before.parameters[name]} if name in before.parameters else {}
    try:
        room = concurrency.room(account.client("lambda"), target)
    except RefusedError as error:
        print(f"{error}. So nobody knows here whether the account has room to reserve {reserved}.")
        return {}
    if room.takes(reserved):
        return {}
    print(
        f"{name}=no, for the account's limit of {room.limit} environments has no room to reserve {reserved} and leave"
        f' {concurrency.STAYS}. Once it is higher: {name} = "yes" under [application] in {target.file}'
    )
    return {name: "no"}


def connections(template: Template, values: Mapping[str, str], target: Target, *, with_database: bool) -> str | None:
    """What is to be told of the sum of connections. Raises ProjectError where it is certain that they do not fit.

    Where the account's concurrency is all that bounds a function, or a number is nowhere, it is not refused.
    """
    asked = Asked(
        template=template.path,
        parameters=values,
        database_template=target.root / DATABASE_TEMPLATE if with_database else None,
        database_parameters=target.database,
    )
    try:
        found = planned(asked)
    except (UnsaidError, ProjectError) as error:
        return f"nobody knows whether the connections fit: {error}"
    if found.plan is None or (found.plan.fits and not found.wrong):
        return None
    if any(use.environments is None for use in found.plan.uses):
        return f"the connections are bounded by the account alone, and may be too many: {PLAN} adds them up."
    raise ProjectError(f"the connections do not fit: {prose.verdict(found)}")


def dead_ends(account: Account, values: Mapping[str, str], target: Target) -> list[str]:
    """What the functions would call in vain. Told and not refused: an account need not see all of a shared network."""
    try:
        return network.problems(account.client("ec2"), values, target)
    except RefusedError as error:
        return [f"{error}. So nobody looked whether the subnets have a way to S3 and to Secrets Manager"]


def checked(
    template: Template, target: Target, database: Stack | None, derived: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A value for each parameter: the file's, the database stack's, what was ``derived``, the template's default.

    Raises ProjectError with all that is missing or would be refused.
    """
    declared = template.parameters
    values = parameters.settled(declared, target.application, database.outputs if database else {}, derived or {})
    problems = misread(template, target) + versions.problems(target, template)
    if missing := parameters.missing(declared, values):
        problems.append(f"no value for {', '.join(missing)}: {_source(target, database)}")
    problems += [
        f"{name}: {why}"
        for name, why in parameters.refused(declared, values).items()
        if name not in missing and name not in target.application
    ]
    problems += _unverified(declared, target, values)
    if problems := problems or [*violated(template.content, values), *unserved(template, target, values)]:
        raise ProjectError("; ".join(problems))
    return values


def unserved(template: Template, target: Target, values: Mapping[str, str]) -> list[str]:
    """What Lambda would refuse of a function, with what the file adds to it."""
    asked = versions.Versions.of(target.versions)
    return excluded(template.content, values, versions.snapped(template) if asked.snapstart else ())


def misread(template: Template, target: Target) -> list[str]:
    """What is wrong with the file's own values, wherever the others come from."""
    where, declared = f"{target.file}: application", template.parameters
    own = parameters.settled({name: {} for name in declared}, target.application)
    problems = parameters.unknown(declared, target.application, where)
    return problems + [f"{where}.{name}: {why}" for name, why in parameters.refused(declared, own).items()]


def _source(target: Target, database: Stack | None) -> str:
    by_hand = f"write them under [application] in {target.file}"
    if database is None:
        return f"there is no stack {target.database_stack} to take them from. {target.make('database')}, or {by_hand}"
    return f"{target.database_stack} does not put them out. {by_hand.capitalize()}"


def _unverified(declared: Mapping[str, object], target: Target, values: Mapping[str, str]) -> list[str]:
    """The certificates that a function would look for, and that the build would not bring."""
    if CERTIFICATE not in declared or values.get(MODE, "") not in VERIFYING:
        return []
    value = values.get(CERTIFICATE, "")
    if not value:
        return [f"{CERTIFICATE} is empty, and {MODE} is to verify: {target.make('certs')}"]
    if not value.startswith(certificates.IN_LAMBDA):
        return []
    there = certificates.FOLDER / PurePosixPath(value).name
    if not (target.root / there).is_file():
        return [f"{CERTIFICATE}: {there} is not there: {target.make('certs')}"]
    if values.get(PROXY) == OF_ACM and not certificates.serves_a_proxy((target.root / there).read_bytes()):
        lacks = f"{there} has none of Amazon's public authorities, which sign what an RDS Proxy shows"
        return [f"{CERTIFICATE}: {lacks}: {target.make('certs')} adds them"]
    return []


def shown(stack: Stack, template: Template) -> str:
    """Its outputs, the template's first one as the last: it is where the application answers."""
    names = [name for name in section(template.content, "Outputs") if name in stack.outputs]
    return "\n".join(f"  {name:<26} {stack.outputs[name]}  ({stack.descriptions[name]})" for name in reversed(names))
