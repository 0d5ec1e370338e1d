"""All that the orders application talks to, on localhost: database, roles, secrets, and CloudFormation's ear.

The clients reach PostgreSQL through a counting wire, so whoever runs the application can say what a call cost.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from devkit.network.wire import Wire
from devkit.servers.aws import LocalAws
from devkit.servers.passwords import new_password
from devkit.servers.postgres import Postgres

from .catalogue import mismatch

if TYPE_CHECKING:
    from typing import Self

    from .catalogue import Case

DATABASE = "orders"
# The template's parameter for the secret of each role.
_PARAMETERS = {"owner": "OwnerSecretId", "app": "AppSecretId", "report": "ReportSecretId"}


class Stack:
    """PostgreSQL with database ``orders``; roles owner, app and report, a secret for each; a receiver of callbacks."""

    def __init__(self) -> None:
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as building:
            self.postgres = building.enter_context(Postgres())
            self.wire = building.enter_context(Wire(self.postgres.host, self.postgres.port))
            self.aws = building.enter_context(LocalAws())
            self._callbacks = building.enter_context(Callbacks())
            self._provision()
            self._exit = building.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _provision(self) -> None:
        self.passwords = {role: new_password() for role in _PARAMETERS}
        # All of moto's servers in a process share their secrets, so the names are this stack's own.
        folder = f"orders-{secrets.token_hex(4)}"
        self._secret_ids = {role: f"{folder}/{role}" for role in _PARAMETERS}
        for role, password in self.passwords.items():
            self.postgres.create_role(role, password)
        self.postgres.create_database(DATABASE, owner="owner")
        for role, name in self._secret_ids.items():
            # The rotation templates' shape.
            self.aws.put_secret(
                name,
                {
                    "engine": "postgres",
                    "host": self.wire.host,
                    "port": self.wire.port,
                    "dbname": DATABASE,
                    "username": role,
                    "password": self.passwords[role],
                },
            )

    def parameters(self) -> dict[str, str]:
        """The template's parameters for this stack."""
        return {
            **{parameter: self._secret_ids[role] for role, parameter in _PARAMETERS.items()},
            "SecretsEndpoint": self.aws.endpoint,
        }

    def environment(self) -> dict[str, str]:
        """AWS credentials and region for a process that is to reach the secrets."""
        return self.aws.environment()

    def payload(self, case: Case) -> dict[str, Any]:
        """The case's payload, with CloudFormation's URL, where it has one, turned to the receiver here."""
        if "ResponseURL" not in case.payload:
            return case.payload
        return case.payload | {"ResponseURL": self._callbacks.url}

    def problem(self, case: Case, answer: object) -> str | None:
        """What is not as the case expects: of the answer, then of what CloudFormation was told. None if nothing is."""
        told = self._callbacks.take()
        if found := case.problem(answer):
            return found
        return mismatch([case.callback] if case.callback else [], told, "the callback")


class Callbacks:
    """An HTTP server that takes CloudFormation's place behind a ResponseURL."""

    def __init__(self) -> None:
        self._received: list[Any] = []

    def __enter__(self) -> Self:
        received = self._received

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep the terminal to the table."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/callback"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self) -> list[Any]:
        """What came since the last call."""
        taken, self._received[:] = list(self._received), []
        return taken
