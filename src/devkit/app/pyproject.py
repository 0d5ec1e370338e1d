"""``[tool.devkit]`` in a project's ``pyproject.toml``: what the kit cannot read from the template. No key is needed.

==============  ======================================================================================================
key             is
==============  ======================================================================================================
``template``    the SAM template; default: ``template.yaml``, ``.yml`` or ``.json`` beside the file
``events``      the folder of payloads, ``events`` by default
``database``    the database's name; default: what the template gives as ``DB_NAME``, else ``app``
``owner``       the role that owns the database and makes its tables; default: the role ``owner``, or the only one, or
                that of the function behind a custom resource
``secrets``     a table: what a function's ``DB_SECRET_ID`` refers to (a parameter, a resource), or a function's logical
                id, and the role that the secret lets in; default: the parameter's name without ``SecretId``,
                ``SecretArn`` or ``Secret``, in snake case: ``AppSecretId`` lets in the role ``app``
``roles``       a list: further roles, which migrations grant to
``parameters``  a table: values of the template's parameters, over their defaults
``variables``   a table: what functions find in their environment whatever the template says
==============  ======================================================================================================
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from .errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

FILE = "pyproject.toml"
TABLE = "tool.devkit"
_SIMPLE = (str, int, float, bool)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("is not a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("is not a list of texts")  # noqa: TRY004 - every converter raises ValueError
    return tuple(_text(one) for one in value)


def _pairs(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(one, _SIMPLE) for one in value.values()):
        raise ValueError("is not a table of texts")
    return {name: str(one).lower() if isinstance(one, bool) else str(one) for name, one in value.items()}


def _key(convert: Callable[[object], Any], **default: Any) -> Any:
    return field(metadata={"convert": convert}, **(default or {"default": None}))


@dataclass(frozen=True, kw_only=True)
class DevkitTable:
    """The table, read; a key that it does not have is None or empty."""

    template: str | None = _key(_text)
    events: str = _key(_text, default="events")
    database: str | None = _key(_text)
    owner: str | None = _key(_text)
    secrets: Mapping[str, str] = _key(_pairs, default_factory=dict)
    roles: tuple[str, ...] = _key(_texts, default=())
    parameters: Mapping[str, str] = _key(_pairs, default_factory=dict)
    variables: Mapping[str, str] = _key(_pairs, default_factory=dict)


def read(root: Path) -> DevkitTable | None:
    """The table of the project in ``root``; None where it has none. Raises ProjectError with all that is wrong."""
    path = root / FILE
    if not path.is_file():
        return None
    try:
        content = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"{path}: {error}") from error
    table = content.get("tool", {}).get("devkit")
    if table is None:
        return None
    if not isinstance(table, dict):
        raise ProjectError(f"{path}: {TABLE} is not a table")
    keys = {one.name: one.metadata["convert"] for one in fields(DevkitTable)}
    values, problems = {}, []
    for name, value in table.items():
        try:
            values[name] = keys[name](value)
        except KeyError:
            problems.append(f"{TABLE}.{name} is no key; the keys are {', '.join(keys)}")
        except ValueError as error:
            problems.append(f"{TABLE}.{name} {error}: {value!r}")
    if problems:
        raise ProjectError(f"{path}: " + "; ".join(problems))
    return DevkitTable(**values)
