"""What can be said to ``python -m devkit plan``, without what it takes to make one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .limits import ACCOUNT, PEOPLE

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said beside the template."""
    parser.add_argument("template", nargs="?", type=Path, help="default: the one in this folder")
    for name, metavar, text in (
        ("parameter", "NAME=VALUE", "a parameter of the template, or an attribute that a deployed stack knows"),
        ("with-parameter", "NAME=VALUE", "the same of the template that --with names"),
        ("function", "NAME=N", "the connections of one environment of a function; 0 leaves it out"),
        ("environments", "NAME=N", "the most environments of a function"),
        ("beside", "NAME=WORKERSxREPLICASxCONNECTIONS", "a service that uses the same database"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=text)
    parser.add_argument(
        "--with", dest="database_template", type=Path, metavar="TEMPLATE", help="what makes the database"
    )
    text = "what the settings of a further database of db begin with, as AUDIT_DB_, to plan that one"
    parser.add_argument("--prefix", help=text)
    parser.add_argument("--database", metavar="NAME", help="which of several databases, by logical id")
    for name, text in (
        ("max-connections", "what the database takes, where no template says it"),
        ("reader-max-connections", "what a reader takes that is a server of its own"),
        ("pool", "the connections that a PgBouncer opens"),
        ("clients", "the connections that it lets in"),
    ):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=text)
    parser.add_argument("--account", type=int, default=ACCOUNT, metavar="N", help="the account's environments")
    parser.add_argument("--people", type=int, default=PEOPLE, metavar="N", help="connections to keep free")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="demand against capacity, as SVG")
    parser.add_argument("--limits", action="store_true", help="print the table of formulas and reserves, and no plan")
