"""Where programs and images that took long to fetch or to make are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where what took long to make is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "serverless-data-access"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
