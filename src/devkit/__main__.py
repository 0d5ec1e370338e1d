"""``python -m devkit``."""

from db.environment.commands import run

from .cli import main

run(main)
