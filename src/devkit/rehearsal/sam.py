"""The `sam` program, as one types it, against the account on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devkit.app.sam_cli import parsed, program, quiet
from devkit.servers.aws import REGION

from .releases import CONFIGURATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from devkit.app.catalogue import Case

    from .account import Account
    from .releases import Release

STACK = "rehearsal"
# Far beyond what a deploy takes here, on a machine that others use as well.
HANGS_S = 600.0
# Where no samconfig.toml says it.
UNCONFIGURED = ("--resolve-s3", "--capabilities", "CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    printed: str
    answer: str


class Sam:
    """``home`` takes the place of the home folder: neither this machine's credentials nor its settings have a say."""

    def __init__(self, account: Account, home: Path) -> None:
        self._home = home
        credentials = account.stack.environment()
        self._environment = quiet(
            {
                **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
                **{name: value for name, value in credentials.items() if name != "AWS_ENDPOINT_URL_SECRETS_MANAGER"},
                "AWS_ENDPOINT_URL": account.endpoint,
                "AWS_CONFIG_FILE": str(home / "config"),
                "HOME": str(home),
                "TMPDIR": str(home),
                "SAM_CLI_POLL_DELAY": "0.2",
            }
        )
        self._parameters = [
            f"ParameterKey={name},ParameterValue='{value}'" for name, value in account.parameters().items()
        ]
        self._credentials = credentials

    def deploy(self, release: Release) -> Done:
        """`sam deploy` of a release."""
        self._know_profiles(release)
        configured = any((release.folder / name).is_file() for name in CONFIGURATIONS)
        return self._run(
            *("deploy", "--stack-name", STACK, "--region", REGION),
            *("--no-confirm-changeset", "--no-progressbar", "--no-fail-on-empty-changeset"),
            *(() if configured else UNCONFIGURED),
            *("--parameter-overrides", *self._parameters),
            folder=release.folder,
        )

    def invoke(self, case: Case) -> tuple[Any, Done]:
        """`sam remote invoke` with the case's payload: what the function answered."""
        payload = self._home / "payload.json"
        payload.write_text(json.dumps(case.payload))
        done = self._run(
            *("remote", "invoke", case.function, "--stack-name", STACK, "--region", REGION),
            *("--event-file", str(payload)),
            folder=self._home,
        )
        return parsed(done.answer), done

    def delete(self, release: Release) -> Done:
        """`sam delete` of the stack, with what it has uploaded."""
        return self._run("delete", "--stack-name", STACK, "--region", REGION, "--no-prompts", folder=release.folder)

    def _run(self, *arguments: str, folder: Path) -> Done:
        done = subprocess.run(
            [program("sam"), *arguments],
            check=False,
            cwd=folder,
            env=self._environment,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=HANGS_S,
        )
        return Done(done.returncode, done.stdout + done.stderr, done.stdout)

    def _know_profiles(self, release: Release) -> None:
        """A profile that the application's samconfig.toml names is one of this account."""
        path = release.folder / CONFIGURATIONS[0]
        named = set(_values("profile", tomllib.loads(path.read_text()))) if path.is_file() else set()
        keys = "".join(f"{name.lower()} = {self._credentials[name]}\n" for name in _OF_A_PROFILE)
        (self._home / "config").write_text("".join(f"[profile {name}]\n{keys}" for name in sorted(named)))


_OF_A_PROFILE = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def _values(key: str, table: Mapping[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _values(key, value)
        elif name == key:
            yield str(value)
