"""A plan made of what a template says, of what another one says of the database, and of what is said by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from db.settings import PREFIX

from . import databases, evidence, functions, limits
from .stack import Stack, UnsaidError
from .sums import Line, Plan, Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from .functions import LeftOut


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be planned, and what is said of it beside the template.

    ``database_template`` makes the database, where ``template`` does not, with parameters of its own; ``database``
    names one of several.
    ``connections`` and ``environments`` are by function, ``beside`` are workers x replicas x connections by service.
    ``prefix`` is what the settings of the database begin with, where that is a further one of ``db``.
    """

    template: Path
    parameters: Mapping[str, str] = field(default_factory=dict)
    database_template: Path | None = None
    database_parameters: Mapping[str, str] = field(default_factory=dict)
    database: str | None = None
    max_connections: int | None = None
    reader_max_connections: int | None = None
    account: int = limits.ACCOUNT
    people: int = limits.PEOPLE
    pool: int | None = None
    clients: int | None = None
    connections: Mapping[str, int] = field(default_factory=dict)
    environments: Mapping[str, int] = field(default_factory=dict)
    beside: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    prefix: str = PREFIX


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The plan, the functions that are none of it, and what is wrong with what the template says of the sum.

    Without anything that uses a database there is no plan. ``notes`` say what else there may be.
    """

    plan: Plan | None
    out: tuple[LeftOut, ...]
    reserved: int
    account: int
    wrong: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def planned(asked: Asked) -> Planned:
    """Raises UnsaidError with what has to be said, and ProjectError for a template that cannot be read."""
    stack = Stack(asked.template, asked.parameters)
    told = functions.Told(connections=asked.connections, environments=asked.environments, prefix=asked.prefix)
    uses, out = functions.uses(stack, told)
    reserved = functions.reserved(stack)
    _check_services(stack, asked)
    notes = tuple(_unseen(stack, asked))
    if not uses and not asked.beside:
        return Planned(plan=None, out=tuple(out), reserved=reserved, account=asked.account, notes=notes)
    plan = Plan(
        uses=tuple(uses),
        writer=_writer(stack, asked),
        unreserved=max(asked.account - reserved, 0),
        beside=tuple(_beside(name, numbers) for name, numbers in asked.beside.items()),
        reader=_reader(stack, asked),
    )
    plan = _pooled(plan, stack, asked)
    wrong = tuple(_misdeclared(stack, plan))
    return Planned(plan=plan, out=tuple(out), reserved=reserved, account=asked.account, wrong=wrong, notes=notes)


def _other(asked: Asked) -> Stack | None:
    return None if asked.database_template is None else Stack(asked.database_template, asked.database_parameters)


def _writer(stack: Stack, asked: Asked) -> Server:
    """The smallest of those that are said: by hand alone, or by the templates."""
    if asked.max_connections is not None:
        engine = evidence.engine(stack, asked.prefix)
        return databases.said(asked.max_connections, asked.people, source="--max-connections", engine=engine)
    made = databases.made(stack, asked.people, asked.database)
    if (other := _other(asked)) is not None:
        made += databases.made(other, asked.people, asked.database)
    if len(made) > 1:
        raise UnsaidError(f"there are several databases: --database {' or '.join(one.what for one in made)}")
    if (declared := databases.declared(stack, asked.people)) is not None:
        made.append(declared)
    if not made and evidence.engine(stack, asked.prefix) == evidence.DSQL:
        made.append(databases.dsql("the database"))
    if not made:
        raise UnsaidError(
            "nothing here says how many connections the database takes: --max-connections …, which the server tells"
            " (SHOW max_connections), or --with and the template that makes the database"
        )
    return min(made, key=lambda one: one.usable)


def _reader(stack: Stack, asked: Asked) -> Server | None:
    if asked.reader_max_connections is not None:
        said = databases.said(asked.reader_max_connections, asked.people, source="--reader-max-connections")
        return replace(said, what="the reader")
    found = databases.reader(stack, asked.people)
    if found is None and (other := _other(asked)) is not None:
        found = databases.reader(other, asked.people)
    return found


def _pooled(plan: Plan, stack: Stack, asked: Asked) -> Plan:
    """With what a pooler opens. Raises UnsaidError where that is not known."""
    routes = {use.route: use.name for use in plan.uses}
    if "rds-proxy" in routes:
        other = _other(asked)
        percent = databases.proxy_percent(stack) or (None if other is None else databases.proxy_percent(other))
        if percent is None:
            raise UnsaidError(
                f"{routes['rds-proxy']} goes to an RDS Proxy, which no template here makes: --with …, the one that does"
            )
        plan = replace(plan, percent=percent)
    if "pgbouncer" in routes:
        if asked.pool is None or asked.clients is None:
            raise UnsaidError(
                f"{routes['pgbouncer']} goes to a PgBouncer: --pool …, the connections that it opens"
                " (default_pool_size for each database and user), and --clients …, those that it lets in"
                " (max_client_conn)"
            )
        clients = Server(
            what="PgBouncer's door",
            most=asked.clients,
            source="--clients",
            remedy=lambda least: f"raise max_client_conn to {least}",
        )
        plan = replace(plan, pool=asked.pool, clients=clients)
    return plan


def _beside(name: str, numbers: tuple[int, ...]) -> Line:
    """Twice during a deploy, which starts the new replicas before it ends the old ones."""
    held = 1
    for number in numbers:
        held *= number
    return Line(name, held, held)


def _check_services(stack: Stack, asked: Asked) -> None:
    unsaid = [
        f"{name} is a service that uses the database: --beside {name}=WORKERSxREPLICASxCONNECTIONS"
        for name in evidence.services(stack)
        if name not in asked.beside
    ]
    if unsaid:
        raise UnsaidError("\n".join(unsaid))


def _unseen(stack: Stack, asked: Asked) -> Iterator[str]:
    """What holds connections too, and is in no sum here."""
    for name in stack.of("AWS::CloudFormation::Stack"):
        yield f"{name} is a stack of its own, and what its template makes is not counted here."
    for prefix, function in evidence.further(stack).items():
        if prefix != asked.prefix:
            yield f"{function} has a further database, and --prefix {prefix} plans that one."


def _misdeclared(stack: Stack, plan: Plan) -> list[str]:
    """MinValue of the parameter MaxConnections would let somebody deploy on a server that is too small."""
    least = stack.template.parameters.get(databases.PARAMETER, {}).get("MinValue")
    if least is None or not plan.fits or plan.sides[0].least <= int(least):
        return []
    return [
        f"MinValue of the parameter {databases.PARAMETER} is {least}, and {plan.sides[0].least} is the least that fits"
    ]
