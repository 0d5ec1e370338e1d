"""What is wrong with an application that the kit is to run."""

from __future__ import annotations


class ProjectError(Exception):
    """The template, ``[tool.devkit]`` or the events cannot be used; the message names file and key, and what to do."""
