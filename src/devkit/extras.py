"""Which packages a part of the kit takes, and what to install where they are missing.

The kit's own metadata is the source: an extra for each part, in its ``pyproject.toml``.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

DISTRIBUTION = "serverless-data-access-devkit"


class MissingPackageError(ImportError):
    """A part of the kit was asked for, and what it takes is not installed, or in a version that does not serve."""


@cache
def require(extra: str) -> None:
    """Raise MissingPackageError, with all that is wrong, unless every package that ``extra`` brings is there to serve.

    Where the kit itself is not installed, as on a path of sources, there is nothing to compare: the import will tell.
    """
    try:
        problems = list(dict.fromkeys(_unmet(DISTRIBUTION, extra)))
    except metadata.PackageNotFoundError:
        return
    if problems:
        remedy = f"pip install '{DISTRIBUTION}[{extra}]'"
        raise MissingPackageError(f"devkit needs {', and '.join(problems)}; its extra {extra!r} brings that: {remedy}")


def _unmet(distribution: str, extra: str) -> Iterator[str]:
    """In words, what ``extra`` of ``distribution`` asks for and is not installed, down to the extras of those."""
    for text in metadata.requires(distribution) or ():
        requirement = Requirement(text)
        if _only_for(extra, requirement):
            wanted = f"{requirement.name}{requirement.specifier}"
            try:
                installed = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                yield f"the package {wanted}, which is not installed"
                continue
            if not requirement.specifier.contains(installed, prereleases=True):
                yield f"the package {wanted}, where {installed} is installed"
            for inner in sorted(requirement.extras):
                yield from _unmet(requirement.name, inner)


def _only_for(extra: str, requirement: Requirement) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})
