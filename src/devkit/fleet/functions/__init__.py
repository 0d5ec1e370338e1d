"""The functions that a fleet runs.

``ours``, ``ours_aio`` and ``alarmed`` are written with this layer, ``plain`` as SQLAlchemy's documents tell, and so is
``plain_reader``, with an engine for the reader beside it.
"""

from pathlib import Path

# What is in the place of Lambda's /var/task.
CODE = Path(__file__).parent
