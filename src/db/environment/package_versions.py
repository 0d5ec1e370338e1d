"""Names a package that `db` cannot work with, where Python would stumble over it some lines later.

Lambda looks for a package in the function's own folder first, then in the layers, then in what the runtime brings. So
an older SQLAlchemy in the function's folder hides the layer's, and a layer that was built for another Python is found
but cannot be loaded. What else may be wrong with a deployment is for the settings to say.

It costs a cold start nothing: `db` imports these packages anyway.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import DOCUMENTATION, ConfigurationError

from .lean_imports import DIALECTS, lean_imports

if TYPE_CHECKING:
    from types import ModuleType

# The oldest release that serves. pyproject.toml says the same to installers; a test compares the two.
OLDEST = {"sqlalchemy": (2, 1), "psycopg": (3, 3), "aws_lambda_powertools": (3, 37)}


def check_packages() -> None:
    """Raise ``ConfigurationError`` for the packages that are too old, or for one that this Python cannot load."""
    try:
        with lean_imports():
            packages = [(importlib.import_module(name), oldest) for name, oldest in OLDEST.items()]
            problems = [_too_old(package, oldest) for package, oldest in packages if _version(package) < oldest]
            if not problems:
                importlib.import_module(DIALECTS)  # as `db` itself does, further down
    except ModuleNotFoundError:
        raise  # says in its own words what is not installed
    except ImportError as error:
        raise ConfigurationError([_built_for_another_python(error)]) from error
    if problems:
        raise ConfigurationError(problems)


def _version(package: ModuleType) -> tuple[int, int]:
    major, minor, *_ = package.__version__.split(".")
    return int(major), int(minor)


def _too_old(package: ModuleType, oldest: tuple[int, int]) -> str:
    name, folder = package.__name__.replace("_", "-"), Path(str(package.__file__)).parents[1]
    wanted = f"{name}>={oldest[0]}.{oldest[1]}"
    hidden = [f"{version} in {place}" for version, place in _installed(name) if place != folder]
    return (
        f"{name} {package.__version__} is loaded from {folder}"
        + (f", which hides {' and '.join(hidden)}" if hidden else "")
        + f", and db needs {wanted}: take it out of {folder}, or ask for {wanted} there"
    )


def _installed(name: str) -> list[tuple[str, Path]]:
    """Version and folder of each ``name`` along ``sys.path``, in the order of the search."""
    from importlib.metadata import distributions

    return [(found.version, Path(str(found.locate_file("")))) for found in distributions(name=name)]


def _built_for_another_python(error: ImportError) -> str:
    """What ``error`` comes to: bytecode or libraries, so a layer, made for another Python or another processor."""
    here = EXTENSION_SUFFIXES[0]
    libraries = (path.name for folder in sys.path for path in Path(folder).glob("psycopg_binary/*.cpython-*.so"))
    there = sorted({f".{library.split('.', 1)[1]}" for library in libraries} - {here})
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"Python {version} cannot load what db needs: {error}"
        + (f" (the libraries at hand end in {' and '.join(there)}, those of this Python in {here})" if there else "")
        + f": build the layer for python{version} and this processor, see {DOCUMENTATION}start/layer/"
    )
