"""What a secret's text says: JSON in the shape of the rotation templates, or in that of RDS.

The templates have engine, host, port, username, password and dbname; what RDS manages itself holds no more than
username and password. Secrets that were written by hand spell the keys in other ways; those of one meaning are taken.
https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from db.errors import CredentialsError
from db.settings.engines.postgresql import KIND as POSTGRESQL

from .source import Credentials

if TYPE_CHECKING:
    from db.settings.engines.kinds import EngineKind

# By each key of AWS's structure, what stands in its place in secrets of other origin: in small letters, without _ - and
# blanks. AWS's own key wins where both are there.
_ALSO_SPELT = {
    "username": ("user", "dbuser", "dbusername", "masterusername"),
    "password": ("pass", "passwd", "pwd", "dbpassword", "dbpass", "masteruserpassword"),
    "host": ("hostname", "dbhost", "endpoint", "address", "server", "dbendpoint"),
    "port": ("dbport",),
    "dbname": ("database", "databasename", "db"),
    "engine": ("dbengine",),
}
_MEANT = {spelt: key for key, others in _ALSO_SPELT.items() for spelt in (key, *others)}
_SERVED = ("postgres", "mysql", "maria")
_URLS = {"url", "uri", "dsn", "databaseurl", "databaseuri", "connectionstring", "connectionurl", "jdbcurl"}
_BETWEEN_WORDS = re.compile(r"[\s_-]")
_MOST_PORT = 65_535


def parse_secret(
    secret_id: str,
    text: str | None,
    *,
    version: str | None,
    fetched_at: float,
    username: str | None = None,
    kind: EngineKind | None = None,
) -> Credentials:
    """Credentials from a secret's text, which is for ``kind`` (PostgreSQL); ``username`` stands in for the secret's.

    Raises CredentialsError that names the secret and the key, never a value.
    """
    content = _json_object(text)
    if content is None:
        shape = "it looks like a URL, and " if re.match(r"\s*\w+(\+\w+)?://", text or "") else ""
        raise CredentialsError(f"secret {secret_id!r}: {shape}its value is not a JSON object of username and password")
    try:
        found = _by_meaning(content)
        _check_engine(found.get("engine"), kind or POSTGRESQL)
        return Credentials(
            username=username or _required(found, "username"),
            password=_required(found, "password"),
            host=_place(found, "host"),
            port=_port(found.get("port")),
            database=_place(found, "dbname"),
            version=version,
            fetched_at=fetched_at,
        )
    except _WrongError as error:
        problem = str(error)
    # Outside of the `except`: what is chained may hold a value.
    raise CredentialsError(f"secret {secret_id!r}: {problem}{_near_miss(problem, content)}")


class _WrongError(Exception):
    """What is wrong with a secret's content."""


def _by_meaning(content: dict[str, Any]) -> dict[str, Any]:
    """The values by AWS's keys; what is empty counts as missing. Refuses two spellings that disagree."""
    spellings: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        meant = _MEANT.get(_BETWEEN_WORDS.sub("", key).lower())
        if meant is not None and value not in (None, ""):
            spellings.setdefault(meant, {})[key] = value
    return {meant: _agreed(meant, values) for meant, values in spellings.items()}


def _agreed(meant: str, values: dict[str, Any]) -> Any:
    if meant in values:
        return values[meant]
    first, *others = values
    for other in others:
        if values[other] != values[first]:
            raise _WrongError(f"keys {first!r} and {other!r} both stand for {meant!r}, and differ")
    return values[first]


def _check_engine(engine: object, kind: EngineKind) -> None:
    # "postgres", "aurora-postgresql", "PostgreSQL"
    if engine is None or any(word in str(engine).lower() for word in kind.in_secrets):
        return
    remedy = ": DB_ENGINE says which" if any(word in str(engine).lower() for word in _SERVED) else ""
    raise _WrongError(f"key 'engine' names a database other than {kind.title}{remedy}")


def _port(port: object) -> int | None:
    if port is None:
        return None
    digits = re.fullmatch(r"\s*(\d{1,5})(?:\.0+)?\s*", "" if isinstance(port, bool) else str(port))
    if digits is None or not 0 < int(digits[1]) <= _MOST_PORT:
        raise _WrongError("key 'port' is not the number of a port")
    return int(digits[1])


def _required(found: dict[str, Any], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value:
        raise _WrongError(f"key {key!r} is missing, empty, or not a string")
    return value


def _place(found: dict[str, Any], key: str) -> str | None:
    return _required(found, key).strip() if key in found else None


def _near_miss(problem: str, content: dict[str, Any]) -> str:
    """The key that may be meant by the one that ``problem`` misses. No other is shown: it could be a value."""
    missed = re.match(r"key '(username|password)'", problem)
    if missed is None or missed[1] in content:
        return ""
    for key in content:
        if _BETWEEN_WORDS.sub("", key).lower() in _URLS:
            return f"; what is under {key!r} belongs into keys of its own, or into DB_URL"
    import difflib

    near = difflib.get_close_matches(missed[1], content, n=1, cutoff=0.7)
    return f": is it {near[0]!r}?" if near else ""


def _json_object(text: str | None) -> dict[str, Any] | None:
    # Returns, so that the caller raises outside the `except`: a chained JSONDecodeError would hold the whole text.
    try:
        content = json.loads((text or "").lstrip("\ufeff"))
        if isinstance(content, str):
            content = json.loads(content)  # it was encoded twice
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
