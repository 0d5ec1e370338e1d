"""What Aurora DSQL refuses of a statement, as far as that is known: by AWS's pages, and by what others have met.

The list is what the kit's stand-in goes by, and no more than a list: nobody here has seen a cluster. Where a source has
the server's words they are these; the others are formed like them. All come with SQLSTATE 0A000 but for the limits.
Sources, with their dates, are in docs/use/dsql.md.
"""

from __future__ import annotations

import re
from itertools import groupby, pairwise
from typing import NamedTuple

from .pinning import tokens_of

NOT_SUPPORTED, LIMIT, CONFLICT = "0A000", "54000", "40001"

# The words that begin a statement, and what it is called in the refusal.
_STATEMENTS = {
    "savepoint": "Savepoint",
    "release": "Release",
    "rollback to": "RollbackTo",
    "declare": "DeclareCursor",
    "truncate": "Truncate",
    "vacuum": "Vacuum",
    "listen": "Listen",
    "unlisten": "Unlisten",
    "notify": "Notify",
    "load": "Load",
    "prepare": "Prepare",
    "execute": "Execute",
    "discard": "Discard",
    "lock": "Lock",
    "do": "Do",
    "set transaction": "SetTransaction",
    "set session characteristics": "SetTransaction",
    "set role": "SetRole",
    "alter system": "AlterSystem",
    "alter policy": "AlterPolicy",
    "alter type": "AlterType",
    "alter user": "AlterUser",
    "alter index": "AlterIndex",
    "create temp": "CreateTemporary",
    "create temporary": "CreateTemporary",
    "create local temp": "CreateTemporary",
    "create unlogged": "CreateUnlogged",
    "create trigger": "CreateTrigger",
    "create extension": "CreateExtension",
    "create materialized": "CreateMaterializedView",
    "create tablespace": "CreateTablespace",
    "create type": "CreateType",
    "create database": "CreateDatabase",
    "create policy": "CreatePolicy",
    "create procedure": "CreateProcedure",
    "create or replace procedure": "CreateProcedure",
    "create rule": "CreateRule",
    "create server": "CreateServer",
    "create publication": "CreatePublication",
}
_FUNCTIONS = re.compile(
    r"pg_(try_)?advisory_\w+|set_config|pg_is_in_recovery|pg_last_\w+|pg_backend_pid|pg_terminate_backend"
    r"|pg_cancel_backend|lo_\w+"
)
_PARAMETERS = {"search_path"}  # what SET takes, of which there is word
_DDL = {"create", "alter", "drop", "grant", "revoke", "comment"}
_DML = {"insert", "update", "delete", "merge", "copy"}


class Refusal(NamedTuple):
    """An ErrorResponse's code and words."""

    code: str
    words: str


class Told(NamedTuple):
    """One statement's words in lower case: what of a transaction's it is, and why it is refused."""

    verb: str
    is_ddl: bool
    is_dml: bool
    refusal: Refusal | None


def told(text: str) -> list[Told]:
    """The statements in ``text``."""
    return [_told(list(words)) for ends, words in groupby(tokens_of(text), key=";".__eq__) if not ends]


def _told(words: list[str]) -> Told:
    verb = words[0]
    is_dml = verb in _DML or (verb == "with" and not _DML.isdisjoint(words))
    return Told(verb, verb in _DDL, is_dml and not _copies_out(words), _refusal(words))


def _copies_out(words: list[str]) -> bool:
    return words[0] == "copy" and "from" not in words


def _refusal(words: list[str]) -> Refusal | None:
    start = " ".join(words[:3])
    for beginning, name in _STATEMENTS.items():
        if f"{start} ".startswith(f"{beginning} "):
            return Refusal(NOT_SUPPORTED, f"unsupported statement: {name}")
    for name, following in pairwise(words):
        if following == "(" and _FUNCTIONS.fullmatch(name):
            return Refusal(NOT_SUPPORTED, f"function {name} not supported")
    words_of = {"set": _of_set, "reset": _of_set, "begin": _of_begin, "start": _of_begin, "create": _of_create}
    words_of |= {"alter": _of_alter, "copy": _of_copy, "deallocate": _of_deallocate}
    said = words_of[words[0]](words) if words[0] in words_of else None
    return None if said is None else Refusal(NOT_SUPPORTED, said)


def _of_set(words: list[str]) -> str | None:
    name = words[2] if words[1] in {"session", "local"} else words[1]
    if name in _PARAMETERS or name == "constraints":
        return None
    return f'setting configuration parameter "{name}" not supported'


def _of_begin(words: list[str]) -> str | None:
    level = words[words.index("level") + 1 :][:2] if "level" in words else ["repeatable", "read"]
    return None if level == ["repeatable", "read"] else f"unsupported isolation level: {' '.join(level)}"


def _of_create(words: list[str]) -> str | None:
    if words[1:2] == ["index"] or words[1:3] == ["unique", "index"]:
        return None if "async" in words[2:4] else "unsupported mode. please use CREATE INDEX ASYNC"
    if "function" in words[1:4]:
        language = words[words.index("language") + 1] if "language" in words else "sql"
        return None if language == "sql" else f"language {language} not supported"
    if words[1:2] == ["table"]:
        return _of_create_table(words)
    return None


def _of_create_table(words: list[str]) -> str | None:
    for word in ("serial", "bigserial", "smallserial"):
        if word in words:
            return f"datatype {word} not supported"
    for clause in ("inherits", "partition", "tablespace"):
        if clause in words:
            return f"unsupported clause: {clause.upper()}"
    return "unsupported statement: CreateTableAs" if "as" in words and "(" not in words[: words.index("as")] else None


def _of_alter(words: list[str]) -> str | None:
    joined = " ".join(words)
    if "row level security" in joined:
        return "unsupported ALTER TABLE ROW LEVEL SECURITY statement"
    return "unsupported ALTER ROLE statement" if words[1] == "role" and "password" in words else None


def _of_copy(words: list[str]) -> str | None:
    return None if {"stdin", "stdout"} & set(words) else "unsupported statement: Copy"


def _of_deallocate(words: list[str]) -> str | None:
    return None if words[1:2] == ["all"] else "unsupported statement: Deallocate"
