"""Unit tests open no socket: what needs a server belongs elsewhere."""

from __future__ import annotations

import socket

import pytest


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting anywhere is an error of the test."""

    def refuse(*_: object) -> None:
        raise AssertionError("a unit test tried to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
