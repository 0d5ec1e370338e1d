"""What a step has to end in, and what it ended in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto.cloudformation.exceptions import ValidationError

from .functions import UploadedFunction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devkit.servers.postgres import Postgres

    from .account import Account

VERSION_TABLE = "alembic_version"


@dataclass(frozen=True)
class Seen:
    """A stack and its database at one moment; ``status`` is None where there is no stack.

    ``code`` has the digest of each function's code by logical id. ``schema`` has the tables, ``revision`` what Alembic
    has written into its own.
    """

    status: str | None
    revision: str | None = None
    schema: frozenset[str] = frozenset()
    outputs: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)


def seen(account: Account, stack_name: str, server: Postgres, database: str) -> Seen:
    """How it stands now."""
    revision, schema = _schema(server, database)
    try:
        stack = account.cloudformation.get_stack(stack_name)
    except ValidationError:
        return Seen(None, revision, schema)
    resources = [account.cloudformation.execution(stack_name).resources[name] for name in stack.resource_map.resources]
    return Seen(
        status=stack.status,
        revision=revision,
        schema=schema,
        outputs={one["OutputKey"]: str(one["OutputValue"]) for one in stack.outputs or ()},
        code={one.logical_resource_id: one.code_sha_256 for one in resources if isinstance(one, UploadedFunction)},
    )


def differences(expected: Seen, found: Seen) -> Iterator[str]:
    """What is not as expected, in a sentence each."""
    for name in ("status", "revision", "outputs"):
        want, have = getattr(expected, name), getattr(found, name)
        if want != have:
            yield f"the {name} is {have!r}, not {want!r}"
    for what, more, less in (
        ("there is no table", expected.schema, found.schema),
        ("there is the table", found.schema, expected.schema),
    ):
        if names := more - less:
            yield f"{what} {', '.join(sorted(names))}"
    if changed := sorted(name for name in expected.code if expected.code[name] != found.code.get(name)):
        yield f"the code is not what it should be: {', '.join(changed)}"


def unresolved(declared: Mapping[str, Any], outputs: Mapping[str, str]) -> Iterator[str]:
    """Outputs that are missing, or hold something that was not filled in."""
    for name, said in declared.items():
        if name not in outputs and "Condition" not in said:
            yield f"there is no output {name}"
        if "${" in outputs.get(name, "") or outputs.get(name) in {"", "None"}:
            yield f"the output {name} is {outputs[name]!r}"


def _schema(server: Postgres, database: str) -> tuple[str | None, frozenset[str]]:
    tables = server.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
        database=database,
    )
    names = frozenset(f"{schema}.{table}" for schema, table in tables)
    for schema, table in tables:
        if table == VERSION_TABLE:
            rows = server.execute(f'SELECT version_num FROM "{schema}".{VERSION_TABLE}', database=database)  # noqa: S608 - the name is the catalogue's
            return (rows[0][0] if rows else None), names
    return None, names
