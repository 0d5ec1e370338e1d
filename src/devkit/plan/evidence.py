"""Which functions use a database, by what a template says of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from db.settings import PREFIX, fields
from devkit.app.intrinsics import section

from .limits import POSTGRESQL
from .stack import mentioned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .stack import Stack

# Without one of them `db` finds no database; its other settings may stand among what all functions share.
OURS = ("DB_SECRET_ID", "DB_URL", "DB_AUTH")
# As DB_AUTH says it, which is what says the engine there.
DSQL = "dsql"
# Names that other programs give their variables as well.
EVERYBODYS = ("DB_HOST", "DB_PORT", "DB_NAME", "DB_USER")
_SHARED = {PREFIX + row.name.upper() for row in fields()} - {*EVERYBODYS}
DATABASES = (
    *("AWS::RDS::DBInstance", "AWS::RDS::DBCluster", "AWS::RDS::DBProxy", "AWS::RDS::DBProxyEndpoint"),
    *("AWS::DSQL::Cluster", "AWS::SecretsManager::SecretTargetAttachment"),
)
_WORDS = "DB|DATABASE|PG|PGHOST|PGDATABASE|POSTGRES|POSTGRESQL|MYSQL|MARIADB|RDS|AURORA"
_NAME = re.compile(rf"(^|_)({_WORDS})(_|$)|^DATABASE_?URL$")
_OTHERS = re.compile(r"DYNAMO|DDB|GLUE|ATHENA|TIMESTREAM|DOCDB|MONGO|NEPTUNE|REDIS|ELASTIC")
_SECRET, _SECRETS = "secretsmanager:GetSecretValue", "secretsmanager:*"
_TOKEN, _DATA_API = ("rds-db:connect", "dsql:DbConnect"), "rds-data:"


@dataclass(frozen=True)
class Evidence:
    """``says`` ends a sentence that begins with the function's name; ``ours`` is a function that uses ``db``."""

    uses: bool
    says: str
    ours: bool = False


def of(stack: Stack, properties: Mapping[str, Any], prefix: str = PREFIX) -> Evidence:
    """Whether a function with these ``properties`` holds connections of a database.

    Under another ``prefix`` than that of ``db``, of that further database of ``db`` alone.
    """
    variables = told(stack, properties, prefix)
    if evidence := _of_ours(stack, variables, prefix):
        return evidence
    if prefix != PREFIX:
        return Evidence(uses=False, says=f"has no {prefix}SECRET_ID or its like")
    allowed = list(_allowed(stack, properties))
    networked = bool(properties.get("VpcConfig"))
    if any(action.startswith(_DATA_API) for action in allowed) and not networked:
        return Evidence(uses=False, says="calls the Data API, which needs no connection")
    says = next(_shown(stack, variables, allowed, networked=networked), None)
    return Evidence(uses=says is not None, says=says or "has no variable or permission that leads to a database")


def _shown(stack: Stack, variables: Mapping[str, Any], allowed: list[str], *, networked: bool) -> Iterator[str]:
    """What shows that it does, from what is plain to what is likely."""
    databases = set(stack.of(*DATABASES))
    for attachment in stack.of("AWS::SecretsManager::SecretTargetAttachment").values():
        databases |= set(mentioned(attachment))
    own = {name: value for name, value in variables.items() if name not in _SHARED}
    for name, value in own.items():
        if found := databases & set(mentioned(value)):
            yield f"is told of {min(found)} by its variable {name}"
    yield from (f"has the variable {name}" for name in own if _looks_like_a_database(name.upper()))
    yield from (f"is allowed {action}" for action in allowed if action.startswith(_TOKEN))
    if networked and (_SECRET in allowed or _SECRETS in allowed):
        yield "is in a network, and may read a secret"


def _looks_like_a_database(name: str) -> bool:
    return _NAME.search(name) is not None and _OTHERS.search(name) is None


def told(stack: Stack, properties: Mapping[str, Any], prefix: str = PREFIX) -> dict[str, Any]:
    """The variables of a function; those under another prefix as if they were the default database's, and no others."""
    environment = stack.part(properties, "Environment", "a function")
    variables = stack.part(environment, "Variables", "a function's Environment")
    if prefix == PREFIX:
        return variables
    return {PREFIX + name.removeprefix(prefix): one for name, one in variables.items() if name.startswith(prefix)}


def further(stack: Stack) -> dict[str, str]:
    """For each prefix of a further database of `db`, the function that has its secret or its like."""
    found: dict[str, str] = {}
    for name, properties in stack.of("AWS::Lambda::Function").items():
        for variable in told(stack, properties):
            prefix, is_one, rest = variable.partition(f"_{PREFIX}")
            if is_one and PREFIX + rest in OURS:
                found.setdefault(f"{prefix}_{PREFIX}", name)
    return found


def _of_ours(stack: Stack, variables: Mapping[str, Any], prefix: str) -> Evidence | None:
    named = [name for name in OURS if variables.get(name) not in (None, "")]
    if named == ["DB_AUTH"] and stack.known.text_or_none(variables["DB_AUTH"]) in {"", "secret"}:
        return None  # which secret is said to those that have one
    if not named:
        return None
    url = stack.known.text_or_none(variables.get("DB_URL", "")) or ""
    if url.startswith("sqlite"):
        return Evidence(uses=False, says="has SQLite for its database", ours=True)
    return Evidence(uses=True, says=f"has {prefix}{named[0].removeprefix(PREFIX)}", ours=True)


def _allowed(stack: Stack, properties: Mapping[str, Any]) -> Iterator[str]:
    """The actions that the policies of the function's role name, as far as the template has them."""
    policies = stack.of("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy")
    for role in mentioned(properties.get("Role")):
        resource = section(stack.resources.get(role, {}), "Properties")
        managed = set(mentioned(resource.get("ManagedPolicyArns")))
        yield from _actions(resource.get("Policies"))
        for name, policy in policies.items():
            if name in managed or role in mentioned(policy.get("Roles")):
                yield from _actions(policy)


def _actions(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _actions(one)
    elif isinstance(value, dict):
        said = value.get("Action")
        yield from (one for one in (said if isinstance(said, list) else [said]) if isinstance(one, str))
        for inner in value.values():
            yield from _actions(inner)


def services(stack: Stack) -> list[str]:
    """The services of containers that use a database, by the same signs."""
    tasks = stack.of("AWS::ECS::TaskDefinition")
    return [
        name
        for name, service in stack.of("AWS::ECS::Service").items()
        for task in mentioned(service.get("TaskDefinition"))
        if task in tasks and next(_shown(stack, _of_containers(tasks[task]), [], networked=False), None)
    ]


def _of_containers(task: Mapping[str, Any]) -> dict[str, Any]:
    return {
        one["Name"]: one.get("Value", one.get("ValueFrom"))
        for container in task.get("ContainerDefinitions") or []
        if isinstance(container, dict)
        for one in [*(container.get("Environment") or []), *(container.get("Secrets") or [])]
        if isinstance(one, dict) and isinstance(one.get("Name"), str)
    }


def engine(stack: Stack, prefix: str = PREFIX) -> str:
    """What the functions of `db` are told that the database is; PostgreSQL where they are told nothing."""
    tokens = set()
    for properties in stack.of("AWS::Lambda::Function").values():
        variables = told(stack, properties, prefix)
        if _of_ours(stack, variables, prefix):
            tokens.add(stack.known.text_or_none(variables.get("DB_AUTH", "")))
        if text := stack.known.text_or_none(variables.get("DB_ENGINE", "")):
            return text
    if tokens == {DSQL}:
        return DSQL
    return POSTGRESQL
