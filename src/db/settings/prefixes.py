"""The settings of a further database: those of the table, each by its name under another prefix than ``DB_``.

Loaded where a function has such a database.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from db.errors import ConfigurationError, in_words_of

from .kinds import PREFIX
from .table import Settings, unread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FORM = re.compile(r"[A-Z][A-Z0-9_]*_")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,29}")
_OUR_WORD = re.compile(r"\b(?:DB|db)_\w+")
# Of others who read the same environment, so that most of what begins so would be taken for a slip.
_TAKEN = {"AWS_": "AWS's", "LAMBDA_": "Lambda's", "POWERTOOLS_": "Powertools'", "PG": "libpq's"}


def name_of(prefix: str) -> str:
    """The name of the database whose settings begin with ``prefix``: ``audit`` for ``AUDIT_DB_``.

    Raises ConfigurationError for what no variables of a second database can begin with.
    """
    if problem := _problem(prefix):
        raise ConfigurationError([f"prefix={prefix!r} {problem}"])
    return prefix.lower().removesuffix("_").removesuffix("_db")


def _problem(prefix: object) -> str | None:
    if not isinstance(prefix, str):
        return f"is a {type(prefix).__name__}, and not the beginning of names"
    if prefix == PREFIX:
        return "is the default database's, which is there already, as the functions of the module: db.begin()"
    if not _FORM.fullmatch(prefix):
        return "is no beginning of settings: upper case, and an underscore at its end, as in AUDIT_DB_"
    if prefix.startswith(PREFIX):
        return f"begins as the default database's do, which would take its names for slips: is {_turned(prefix)} meant?"
    if owner := next((whose for taken, whose in _TAKEN.items() if prefix.startswith(taken)), None):
        return f"begins as {owner} own variables do: take another, as in AUDIT_DB_"
    return None


def _turned(prefix: str) -> str:
    return f"{prefix.removeprefix(PREFIX).rstrip('_')}_{PREFIX}"


def checked_name(name: str) -> str:
    """``name``, if a database can be called so in a log line, a metric and a message. Raises ConfigurationError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "db":
        raise ConfigurationError(
            [f"name={name!r} is no name of a further database: a word in lower case, up to 30 characters, and not 'db'"]
        )
    return name


def read(
    environ: Mapping[str, str], prefix: str, *, database: str, others: Iterable[str] = ()
) -> tuple[Settings, list[str]]:
    """The settings under ``prefix``, and the names that look like some and have no effect.

    What begins with one of ``others``, longer prefixes, is another database's. Raises ConfigurationError, in which the
    variables are named as they are.
    """
    ours, names = _as_defaults(environ, prefix, tuple(other for other in others if len(other) > len(prefix)))
    problems = []
    if ours.get("DB_SHUTDOWN_HOOK", "").strip():
        problems.append(f"{prefix}SHUTDOWN_HOOK: one hook serves all databases, by the default one's setting")
    if ours.get("DB_WARM", "").strip():
        problems.append(f"{prefix}WARM: Init connects to the default database alone, by DB_WARM")
    try:
        settings = Settings.from_env(ours)
    except ConfigurationError as error:
        problems += [_named(said, names, prefix, database) for said in error.problems]
    if problems:
        raise ConfigurationError(problems)
    ignored = [names[name] for name in unread(ours, settings)]
    return dataclasses.replace(settings, database=database, prefix=prefix), ignored


def _as_defaults(
    environ: Mapping[str, str], prefix: str, others: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, str]]:
    """``environ`` as it would be were this the only database, and its own names of these variables.

    One in another case than the prefix keeps that, as it is a slip by its own right.
    """
    function = environ.get("AWS_LAMBDA_FUNCTION_NAME")
    ours, names = {} if function is None else {"AWS_LAMBDA_FUNCTION_NAME": function}, {}
    for name, value in environ.items():
        if name[: len(prefix)].upper() != prefix or name.upper().startswith(others):
            continue
        called = (PREFIX if name.startswith(prefix) else PREFIX.lower()) + name[len(prefix) :]
        ours[called], names[called] = value, name
    if "DB_IGNORE" in ours:
        ours["DB_IGNORE"] = ",".join(_our_name(name.strip(), prefix) for name in ours["DB_IGNORE"].split(","))
    return ours, names


def _our_name(name: str, prefix: str) -> str:
    return PREFIX + name.removeprefix(prefix) if name.startswith(prefix) else name


def _named(said: str, names: Mapping[str, str], prefix: str, database: str) -> str:
    """``said`` of the default database's settings, as it is of those under ``prefix``."""
    as_they_are = _OUR_WORD.sub(lambda word: names.get(word[0], word[0]), said)
    return in_words_of(as_they_are, database=database, prefix=prefix)
