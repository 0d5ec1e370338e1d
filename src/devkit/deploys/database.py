"""``make database``: the stack of database.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devkit.app.errors import ProjectError
from devkit.app.rules import violated
from devkit.app.template import Template

from . import commands, parameters, prices, stacks
from .asking import Account
from .target import DATABASE_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .target import Target

# For the roles of the rotation functions, and for the macro that makes those functions.
CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND")


def run(target: Target) -> int:
    """Make or change it, and show what the application will take of it; an exit status. Raises ProjectError."""
    target.check_file()
    values = checked(Template(target.root / DATABASE_TEMPLATE), target)
    account = Account(target)
    number, _ = account.identity()
    cloudformation = account.client("cloudformation")
    before = stacks.look(cloudformation, target.database_stack, target)
    stacks.check(cloudformation, before, target.make("destroy", "DATABASE=yes"), target)
    print(f"The stack {target.database_stack} in the account {number}, {account.region}.")
    before = stacks.without_empty(cloudformation, before, target)
    if before is None:
        print(prices.as_text(prices.database(values), prices.DATABASE_WAIT))
    status = commands.sam(target.root, *command(target, values))
    after = stacks.look(cloudformation, target.database_stack, target)
    if status or after is None:
        reasons = stacks.why(cloudformation, target.database_stack, target)
        print(
            "", stacks.failed(target.database_stack, after, reasons, target.make("destroy", "DATABASE=yes")), sep="\n"
        )
        return status or 1
    print(f"\n{target.database_stack} is {after.status}. `{target.make('deploy')}` takes from it:")
    for name, value in after.outputs.items():
        print(f"  {name:<24} {value}")
    return 0


def checked(template: Template, target: Target) -> dict[str, str]:
    """The values of database.yaml's parameters. Raises ProjectError with all that is wrong with the file's."""
    declared = template.parameters
    values = parameters.settled(declared, target.database)
    where = f"{target.file}: database"
    problems = parameters.unknown(declared, target.database, where)
    problems += [f"{where}.{name}: {why}" for name, why in parameters.refused(declared, values).items()]
    if problems := problems or [*violated(template.content, values), *_capacity(values)]:
        raise ProjectError("; ".join(problems))
    return values


def _capacity(values: Mapping[str, str]) -> list[str]:
    """What RDS would refuse, once the network is there: no rule of a template can reckon."""
    least, most = (float(values.get(name, 0)) for name in ("MinCapacity", "MaxCapacity"))
    if most and least > most:
        return [f"MinCapacity={least:g} is above MaxCapacity={most:g}"]
    return [
        f"{name}={value:g}: capacity is counted in halves"
        for name, value in (("MinCapacity", least), ("MaxCapacity", most))
        if value % 0.5
    ]


def command(target: Target, values: Mapping[str, str]) -> list[str]:
    """Without a bucket: a template of less than 51,200 bytes is sent as it is."""
    return [
        *("deploy", "--template-file", DATABASE_TEMPLATE, "--stack-name", target.database_stack, *target.where()),
        *("--capabilities", *CAPABILITIES, "--no-resolve-s3", "--no-confirm-changeset", "--no-fail-on-empty-changeset"),
        *commands.overrides(values),
    ]
