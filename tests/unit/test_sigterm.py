"""When a process prepares for its end. What it then does is shown in tests/runtime."""

from __future__ import annotations

import signal

import pytest

from db.environment import sigterm

LAMBDA = {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand"}


@pytest.mark.parametrize("kind", ["on-demand", "provisioned-concurrency", "lambda-managed-instances"])
def test_an_environment_of_lambda_is_told_of_its_end(kind: str) -> None:
    """By default, and from the first Python on whose runtime lets a signal in."""
    assert sigterm.wanted({**LAMBDA, "AWS_LAMBDA_INITIALIZATION_TYPE": kind}, (3, 12))


@pytest.mark.parametrize(
    ("environ", "version"),
    [
        ({}, (3, 13)),
        (LAMBDA, (3, 11)),
        ({**LAMBDA, "DB_SHUTDOWN_HOOK": "off"}, (3, 13)),
        ({**LAMBDA, "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}, (3, 13)),
    ],
    ids=["a laptop", "an old Python", "turned off", "a snapshot"],
)
def test_elsewhere_it_is_not(environ: dict[str, str], version: tuple[int, int]) -> None:
    """Nor where the user says so, nor where the runtime cannot hear, nor where nobody knows what would happen."""
    assert not sigterm.wanted(environ, version)


def test_a_setting_that_does_not_parse_is_not_this_ones_to_report() -> None:
    """The first use of the database does."""
    assert sigterm.wanted({**LAMBDA, "DB_SHUTDOWN_HOOK": "perhaps"}, (3, 13))


def test_outside_lambda_nothing_listens() -> None:
    """A program that imports handlers keeps its own way to end."""
    before = signal.getsignal(signal.SIGTERM)
    sigterm.install(lambda: None)
    assert signal.getsignal(signal.SIGTERM) is before
