"""What a template's database takes: its class, its capacity, its parameters, and a proxy before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from devkit.app.intrinsics import section

from . import limits
from .stack import UnsaidError, mentioned
from .sums import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .stack import Stack

    Remedy = Callable[[int], str]

CLUSTER, INSTANCE, DSQL = "AWS::RDS::DBCluster", "AWS::RDS::DBInstance", "AWS::DSQL::Cluster"
GROUPS = ("AWS::RDS::DBParameterGroup", "AWS::RDS::DBClusterParameterGroup")
# By this name a template says what a database of another stack takes.
PARAMETER = "MaxConnections"
SERVERLESS = "db.serverless"


def declared(stack: Stack, people: int) -> Server | None:
    """The parameter MaxConnections of the template, where it has one. Raises UnsaidError where that has no value."""
    if PARAMETER not in stack.template.parameters:
        return None
    most = stack.count({"Ref": PARAMETER}, PARAMETER)
    if most is None:
        return None
    return said(most, people, source=f"the parameter {PARAMETER}", remedy=_raised(PARAMETER))


def said(
    most: int, people: int, *, source: str, engine: str = limits.POSTGRESQL, remedy: Remedy | None = None
) -> Server:
    """What somebody says of a server that no template here makes."""
    return Server(
        what="the database",
        most=most,
        source=source,
        reserved=limits.reserved(engine, None, rds=False),
        people=people,
        remedy=remedy or _raised(),
    )


def made(stack: Stack, people: int, named: str | None = None) -> list[Server]:
    """The databases that the template makes: the server of each, or of ``named`` alone. Raises UnsaidError."""
    alone = {
        name: one
        for name, one in stack.of(INSTANCE).items()
        if "DBClusterIdentifier" not in one and "SourceDBInstanceIdentifier" not in one
    }
    found = [_cluster(stack, name, one, people) for name, one in stack.of(CLUSTER).items() if named in {None, name}]
    found += [_instance(stack, name, one, people) for name, one in alone.items() if named in {None, name}]
    found += [dsql(name) for name in stack.of(DSQL) if named in {None, name}]
    return found


def dsql(name: str) -> Server:
    """A cluster of Aurora DSQL. All have the same limit, so no template has to make it."""
    return Server(what=name, most=limits.DSQL, source="an Aurora DSQL cluster")


def reader(stack: Stack, people: int) -> Server | None:
    """A reader that is a server of its own: of a cluster, one of its instances beside the writer."""
    for name, cluster in stack.of(CLUSTER).items():
        if len(_instances(stack, name)) > 1:
            return replace(_cluster(stack, name, cluster, people), what=f"one reader of {name}")
    return None


def proxy_percent(stack: Stack) -> int | None:
    """What an RDS Proxy may have of max_connections; None where the template has no proxy. Raises UnsaidError."""
    if not stack.of("AWS::RDS::DBProxy"):
        return None
    for name, group in stack.of("AWS::RDS::DBProxyTargetGroup").items():
        pool = stack.part(group, "ConnectionPoolConfigurationInfo", name)
        said = stack.count(pool.get("MaxConnectionsPercent"), f"{name}: MaxConnectionsPercent")
        if said is not None:
            return said
    return limits.PROXY_PERCENT


@dataclass(frozen=True)
class _Found:
    """max_connections, by which row of the table or whose word, and how to raise it."""

    most: int
    source: str
    remedy: Remedy


def _cluster(stack: Stack, name: str, properties: Mapping[str, Any], people: int) -> Server:
    instances = _instances(stack, name)
    classes = [stack.text(one.get("DBInstanceClass"), f"{other}: DBInstanceClass") for other, one in instances.items()]
    own = stack.text(properties.get("DBClusterInstanceClass"), f"{name}: DBClusterInstanceClass")
    found = _by_parameter(stack, [properties, *instances.values()])
    if found is None:
        # Whichever is the writer after a failover.
        each = [_default(stack, name, properties, one) for one in classes or [own or SERVERLESS]]
        found = min(each, key=lambda one: one.most)
    return _server(stack, name, properties, found, people)


def _instance(stack: Stack, name: str, properties: Mapping[str, Any], people: int) -> Server:
    found = _by_parameter(stack, [properties])
    if found is None:
        instance_class = stack.text(properties.get("DBInstanceClass"), f"{name}: DBInstanceClass")
        found = _default(stack, name, properties, instance_class)
    return _server(stack, name, properties, found, people)


def _server(stack: Stack, name: str, properties: Mapping[str, Any], found: _Found, people: int) -> Server:
    engine, _ = _engine(stack, name, properties)
    version = stack.text(properties.get("EngineVersion"), f"{name}: EngineVersion")
    reserved = limits.reserved(engine, version, rds=True)
    return Server(
        what=name, most=found.most, source=found.source, reserved=reserved, people=people, remedy=found.remedy
    )


def _default(stack: Stack, name: str, properties: Mapping[str, Any], instance_class: str) -> _Found:
    """What it is where nobody says it. Raises UnsaidError for a class that is in no table."""
    engine, aurora = _engine(stack, name, properties)
    if instance_class == SERVERLESS:
        return _serverless(stack, name, properties, engine)
    found = limits.by_class(engine, instance_class, aurora=aurora)
    if found is None:
        raise UnsaidError(
            f"{name}: how many connections {engine} takes on {instance_class or 'no class'} is in no table here, but"
            " the server says it (SHOW max_connections): --max-connections …"
        )

    def larger(least: int) -> str:
        one = limits.next_class(engine, instance_class, least, aurora=aurora)
        return f"take {one}, which has {least} connections or more" if one else f"raise max_connections to {least}"

    return _Found(found, f"max_connections of {instance_class}", larger)


def _serverless(stack: Stack, name: str, properties: Mapping[str, Any], engine: str) -> _Found:
    scaling = stack.part(properties, "ServerlessV2ScalingConfiguration", name)
    lowest = stack.number(scaling.get("MinCapacity"), f"{name}: MinCapacity") or 0
    highest = stack.number(scaling.get("MaxCapacity"), f"{name}: MaxCapacity")
    found = None if highest is None else limits.by_acu(engine, lowest, highest)
    if found is None:
        raise UnsaidError(f"{name}: no MaxCapacity says how many connections it takes: --max-connections …")

    def larger(least: int) -> str:
        acu = limits.next_acu(engine, lowest, least)
        return f"set MaxCapacity to {acu}" if acu else f"raise max_connections to {least}"

    return _Found(found, f"max_connections of {lowest:g} to {highest:g} ACU", larger)


def _raised(name: str = "max_connections") -> Remedy:
    return lambda least: f"raise {name} to {least}"


def _instances(stack: Stack, cluster: str) -> dict[str, dict[str, Any]]:
    found = stack.of(INSTANCE)
    return {name: one for name, one in found.items() if cluster in mentioned(one.get("DBClusterIdentifier"))}


def _engine(stack: Stack, name: str, properties: Mapping[str, Any]) -> tuple[str, bool]:
    """The engine, and whether it is Aurora's. Raises UnsaidError for one that is in no table."""
    said = stack.text(properties.get("Engine"), f"{name}: Engine")
    engine = {"postgres": limits.POSTGRESQL, "aurora": limits.MYSQL}.get(said, said.removeprefix("aurora-"))
    if engine not in limits.BYTES_PER_CONNECTION:
        raise UnsaidError(f"{name}: Engine is {said or 'not said'}, which is in no table here: --max-connections …")
    return engine, said.startswith("aurora")


def _by_parameter(stack: Stack, of: list[Mapping[str, Any]]) -> _Found | None:
    """The least of those that parameter groups of these resources set. Raises UnsaidError for a formula."""
    found = [number for properties in of for number in _said(stack, properties)]
    return _Found(min(found), "max_connections of its parameter group", _raised()) if found else None


def _said(stack: Stack, properties: Mapping[str, Any]) -> Iterator[int]:
    named = set(mentioned([properties.get("DBParameterGroupName"), properties.get("DBClusterParameterGroupName")]))
    for name, group in stack.of(*GROUPS).items():
        value = section(group, "Parameters").get("max_connections")
        if name in named and value is not None:
            text = stack.text(value, f"{name}: max_connections")
            if not text.isdecimal():
                raise UnsaidError(f"{name}: max_connections is {text}, a formula: --max-connections …")
            yield int(text)
