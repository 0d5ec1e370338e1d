"""DB_SCHEMA, a search path: the first schema in it, and where the layer's own functions are. Pure."""

from __future__ import annotations

import re

from db.errors import DOCUMENTATION

# Made by migrations, for DB_PROXY=rds-proxy: the proxy pins a session for what it finds in a statement's text, and does
# not look into a function.
PROLOGUE_FUNCTION = "db_begin_unit"
# undefined_function, insufficient_privilege, invalid_schema_name
NO_FUNCTION = {"42883", "42501", "3F000"}

_NAME = re.compile(r'[\s,]*(?:"((?:[^"]|"")+)"|([^\s",]+))')
_USERS_OWN = "$user"


def schemas(search_path: str) -> list[str]:
    """The names of ``search_path``, in order."""
    found = _NAME.findall(search_path)
    return [quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in found]


def first_schema(search_path: str) -> str | None:
    """The first schema of ``search_path``; None where that is the user's own, which most users do not have."""
    first = next(iter(schemas(search_path)), None)
    return None if first == _USERS_OWN else first


def qualified(function: str, search_path: str | None) -> str:
    """``function`` where a migration with the same ``search_path`` makes it: it is called before there is that path.

    A migration runs as another user, so that ``$user`` is passed over.
    """
    named = (schema for schema in schemas(search_path or "") if schema != _USERS_OWN)
    schema = next(named, None)
    return function if schema is None else '"' + schema.replace('"', '""') + f'".{function}'


def no_prologue_function(search_path: str | None) -> str:
    """What to say where it is missing."""
    return (
        f"DB_PROXY=rds-proxy opens each transaction with the function {qualified(PROLOGUE_FUNCTION, search_path)}, "
        "which this login has not, or not the schema: a migration makes it, in the first schema of its DB_SCHEMA, and "
        "grants it to a role, by create_prologue_function(op, used_by=[role]) of db.migrations.operations "
        f"({DOCUMENTATION}reference/wire/#proxies)"
    )
