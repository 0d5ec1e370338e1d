"""The functions that a fleet runs: ``ours`` is written with this layer, ``plain`` as SQLAlchemy's documents tell."""

from pathlib import Path

# What is in the place of Lambda's /var/task.
CODE = Path(__file__).parent
