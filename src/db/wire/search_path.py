"""DB_SCHEMA on the wire: its first schema, where the layer's functions are, and what a plain transaction says. Pure.

Behind a proxy a connection has no search path of its own: each transaction says it anew, behind its BEGIN.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from db.errors import DOCUMENTATION, ConfigurationError, sqlstate

# Made by migrations, for DB_PROXY=rds-proxy: the proxy pins a session for what it finds in a statement's text, and does
# not look into a function.
PROLOGUE_FUNCTION = "db_begin_unit"
CONSTRAINTS_FUNCTION = "db_check_constraints"
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


@dataclass(frozen=True, eq=False, repr=False, match_args=False)
class PlainPrologue:
    """What says ``search_path`` behind the BEGIN of a transaction that is no unit of work's."""

    search_path: str
    through_function: bool = False

    @functools.cached_property
    def text(self) -> bytes:
        value = "'" + self.search_path.replace("'", "''") + "'"
        if not self.through_function:
            return f"SELECT set_config('search_path', {value}, true)".encode()
        # The function sets the limits whatever it is given, so it is given what holds.
        limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        now = ", ".join(f"current_setting('{name}')" for name in limits)
        function = qualified(PROLOGUE_FUNCTION, self.search_path)
        return f"SELECT {function}({now}, NULL, NULL, {value}, NULL, NULL)".encode()

    def require_function(self, error: Exception) -> None:
        """Raise ConfigurationError where ``error``, the answer to it, says that there is no such function."""
        if self.through_function and sqlstate(error) in NO_FUNCTION:
            raise ConfigurationError([no_prologue_function(self.search_path)]) from error


NO_AUTOCOMMIT = (
    "behind a proxy each transaction says the search path of DB_SCHEMA for itself, and in AUTOCOMMIT there is none to "
    "say it in: statements would reach other tables of the same name. What cannot run in a transaction goes to the "
    f"server itself, with its address in DB_HOST and DB_PROXY=none ({DOCUMENTATION}reference/wire/#proxies)"
)


def no_prologue_function(search_path: str | None) -> str:
    """What to say where it is missing."""
    function = qualified(PROLOGUE_FUNCTION, search_path)
    return _missing(f"opens each transaction with the function {function}", helper="create_prologue_function")


def no_constraints_function(search_path: str | None) -> str:
    """What to say where it is missing."""
    function = qualified(CONSTRAINTS_FUNCTION, search_path)
    return _missing(f"checks deferred constraints with the function {function}", helper="create_constraints_function")


def _missing(use: str, *, helper: str) -> str:
    return (
        f"DB_PROXY=rds-proxy {use}, which this login has not, or not the schema: a migration makes it, in the first "
        f"schema of its DB_SCHEMA, and grants it to a role, by {helper}(op, used_by=[role]) of "
        f"db.migrations.operations ({DOCUMENTATION}reference/wire/#proxies)"
    )
