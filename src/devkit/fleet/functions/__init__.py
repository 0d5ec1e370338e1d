"""The functions that a fleet runs: ``ours`` is written with this layer, ``plain`` as SQLAlchemy's documents tell."""
