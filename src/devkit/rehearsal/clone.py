"""The way from a clone in an empty account to a URL, and back: the kit's own verbs, as `make` calls them.

What they deploy is the application's own two templates. Whoever has another way leaves out the files that they need,
and then it is not rehearsed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import botocore

from devkit.app.project import Project

from .sam import HANGS_S, Done

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .account import Account

DATABASE, SAMCONFIG, EXAMPLE = "database.yaml", "samconfig.toml", "deploy/example.toml"
# What no clone has: environments, builds and caches, and what is an account's own.
LEFT_OUT = (
    ".venv",
    ".uv",
    ".git",
    ".aws-sam",
    ".cache",
    ".*_cache",
    ".hypothesis",
    ".site",
    "__pycache__",
    "dist",
    "certs",
)
BUILD = "[default.build.parameters]\n"
BUNDLE = "global-bundle.pem"


class Clone:
    """The application in a folder of its own, and the account that its verbs go to. ``own`` is the user's file."""

    own = Path("deploy/dev.toml")

    def __init__(self, account: Account, folder: Path) -> None:
        root = account.project.root
        # An editor's lock is a link to nothing.
        left_out = shutil.ignore_patterns(*LEFT_OUT)
        shutil.copytree(root, folder / "clone", ignore=left_out, ignore_dangling_symlinks=True)
        self.root = folder / "clone"
        for path in (self.root / "deploy").glob("*.toml"):
            if path != self.root / EXAMPLE:
                path.unlink()
        # The second build is of the same sources, and half a minute of this machine's time.
        config = (self.root / SAMCONFIG).read_text()
        (self.root / SAMCONFIG).write_text(config.replace(BUILD, f"{BUILD}cached = true\n"))
        self.project = Project.at(self.root)
        environment = {
            **os.environ,
            **account.stack.environment(),
            "AWS_ENDPOINT_URL": account.endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "TMPDIR": str(folder),
            "SAM_CLI_POLL_DELAY": "0.2",
        }
        self._environment = {name: value for name, value in environment.items() if name != "AWS_PROFILE"}

    @staticmethod
    def can_be_made_of(root: Path) -> bool:
        """Whether the application has what the verbs deploy."""
        return all((root / name).is_file() for name in (DATABASE, SAMCONFIG, EXAMPLE))

    def says(self, **tables: Mapping[str, str | int]) -> None:
        """Write the user's own file: ``clone.says(application={"DatabasePort": 5432})``."""
        example = (self.root / EXAMPLE).read_text()
        for table, values in tables.items():
            lines = "".join(f'{name} = "{value}"\n' for name, value in values.items())
            head = next(line for line in example.splitlines() if line.startswith(f"[{table}]"))
            example = example.replace(head, f"{head}\n{lines}")
        (self.root / self.own).write_text(example)

    def make(self, verb: str, *options: str) -> Done:
        """What `make verb` does, in its environment."""
        done = subprocess.run(
            [sys.executable, "-m", "devkit", verb, "--root", ".", *options],
            check=False,
            cwd=self.root,
            env=self._environment,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=HANGS_S,
        )
        return Done(done.returncode, done.stdout + done.stderr, done.stdout)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def bundle_served(folder: Path) -> Iterator[str]:
    """The URL of a bundle of authorities, in the place of RDS's: those of botocore."""
    (folder / "served").mkdir()
    shutil.copyfile(Path(botocore.__file__).with_name("cacert.pem"), folder / "served" / BUNDLE)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder / "served"))) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/{BUNDLE}"
        server.shutdown()
        serving.join()
