"""An object by its name, ``module:name`` as servers and their kin take it, from a command line or a file."""

from __future__ import annotations

import importlib
from typing import Any

from db.errors import ConfigurationError


def look_up(named: str, *, said: str, example: str, where: str) -> Any:
    """What ``named`` names. ConfigurationError says what of the name was not found, and begins with ``said``.

    ``example`` is of such a name; ``where`` says in which folders a module is looked for.
    """
    module, colon, path = (part.strip() for part in named.partition(":"))
    if not (module and colon and path):
        raise wrong(said, f"write the module, a colon, and the name in it, such as {example}")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        # What the module itself imports and lacks is another mistake, and its own error says which.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise wrong(said, f"there is no module {error.name!r} ({where})") from error
    for name in path.split("."):
        if not hasattr(found, name):
            raise wrong(said, f"{found!r} has no {name!r}")
        found = getattr(found, name)
    return found


def wrong(said: str, why: str) -> ConfigurationError:
    """That ``said`` cannot be followed, and ``why``."""
    return ConfigurationError([f"{said}: {why}"])
