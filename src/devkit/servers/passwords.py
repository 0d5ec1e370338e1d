"""Passwords that can be recognised wherever they turn up: in a log line, a traceback, a metric."""

from __future__ import annotations

import secrets

PREFIX = "devkit-password-"


def new_password() -> str:
    """A random password that begins with PREFIX."""
    return PREFIX + secrets.token_urlsafe(12)
