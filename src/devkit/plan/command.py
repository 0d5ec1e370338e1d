"""``python -m devkit plan``: what is said there, and what comes of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from db.settings import PREFIX
from devkit.app import pyproject
from devkit.app.errors import ProjectError
from devkit.app.project import TEMPLATES

from . import limits, prose
from .planned import Asked, planned
from .plot import plot
from .stack import UnsaidError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    T = TypeVar("T")

FITS, REFUSED, UNSAID = 0, 1, 2


def run(given: argparse.Namespace) -> int:
    """0 where it fits, 1 where it does not, 2 where something has to be said first. Raises ProjectError."""
    if given.limits:
        print(limits.as_markdown())
        return FITS
    asked = asked_for(given)
    try:
        found = planned(asked)
    except UnsaidError as error:
        print(f"{asked.template.name} cannot be planned yet:\n{error}", file=sys.stderr)
        return UNSAID
    print(prose.as_text(found))
    if found.plan is None:
        return FITS
    if given.plot is not None:
        given.plot.write_text(plot(found.plan.sides, f"Connections of {asked.template.name}, at most"))
    return FITS if found.plan.fits and not found.wrong else REFUSED


def asked_for(given: argparse.Namespace) -> Asked:
    """Raises ProjectError for what cannot be read."""
    template = given.template or next((Path(name) for name in TEMPLATES if Path(name).is_file()), None)
    if template is None:
        raise ProjectError(f"no {TEMPLATES[0]} in {Path.cwd()}: name a template")
    table = pyproject.read(template.resolve().parent) or pyproject.DevkitTable()
    return Asked(
        template=template,
        parameters={**table.parameters, **_pairs("--parameter", given.parameter, str)},
        database_template=given.database_template,
        database_parameters=_pairs("--with-parameter", given.with_parameter, str),
        database=given.database,
        max_connections=given.max_connections,
        reader_max_connections=given.reader_max_connections,
        account=given.account,
        people=given.people,
        pool=given.pool,
        clients=given.clients,
        connections=_pairs("--function", given.function, _whole),
        environments=_pairs("--environments", given.environments, _whole),
        prefix=given.prefix or PREFIX,
        beside=_pairs("--beside", given.beside, lambda text: tuple(_whole(one) for one in text.split("x"))),
    )


def _pairs(option: str, said: Iterable[str], read: Callable[[str], T]) -> dict[str, T]:
    found = {}
    for one in said:
        name, is_one, value = one.partition("=")
        try:
            found[name] = read(value)
        except ValueError as error:
            raise ProjectError(f"{option} {one}: {error}") from None
        if not name or not is_one:
            raise ProjectError(f"{option} {one}: a name, =, and a value")
    return found


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no number")
    return int(text)
