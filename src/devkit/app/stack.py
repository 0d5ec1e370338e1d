"""All that an application talks to, on localhost: database, roles, secrets, and CloudFormation's ear.

The clients reach PostgreSQL through a counting wire, so whoever runs the application can say what a call cost.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any

from devkit.network.wire import Wire
from devkit.servers.aws import LocalAws
from devkit.servers.passwords import new_password
from devkit.servers.postgres import Postgres

from .cloudformation import Callbacks, create_event
from .expectations import mismatch
from .intrinsics import section
from .project import SECRET_VARIABLE

if TYPE_CHECKING:
    from typing import Self

    from .catalogue import Case
    from .project import Project
    from .template import Function

AWS_VARIABLE = "AWS_ENDPOINT_URL_SECRETS_MANAGER"
SSL_VARIABLE = "DB_SSLMODE"
# What would lead a function elsewhere: the secret holds all of it.
ELSEWHERE = (
    *("DB_URL", "DB_AUTH", "DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_READER_HOST", "DB_SSLROOTCERT"),
    SSL_VARIABLE,
)


class Stack:
    """PostgreSQL with the project's database and roles; a secret for each role; a receiver of callbacks.

    ``database_host`` is where the functions find this machine, where that is not its loopback. The embedded server has
    no certificate; on loopback nobody asks for one.
    """

    def __init__(self, project: Project, *, database_host: str | None = None) -> None:
        self.project = project
        self._host = database_host
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
        self.passwords = {role: new_password() for role in self.project.roles}
        # All of moto's servers in a process share their secrets, so the names are this stack's own.
        folder = f"{self.project.database}-{secrets.token_hex(4)}"
        self._secret_ids = {role: f"{folder}/{role}" for role in self.passwords}
        for role, password in self.passwords.items():
            self.postgres.create_role(role, password)
        self.postgres.create_database(self.project.database, owner=self.project.owner)
        for role, name in self._secret_ids.items():
            # The rotation templates' shape.
            self.aws.put_secret(
                name,
                {
                    "engine": "postgres",
                    "host": self._host or self.wire.host,
                    "port": self.wire.port,
                    "dbname": self.project.database,
                    "username": role,
                    "password": self.passwords[role],
                },
            )

    def environment(self) -> dict[str, str]:
        """AWS credentials and region for a process that is to reach the secrets."""
        return self.aws.environment()

    def parameters(self) -> dict[str, str]:
        """The template's parameters for this stack: the secrets, and those that a function's variable hands on."""
        return {name: value for name, value in self._values().items() if name in self.project.template.parameters}

    def functions(self) -> dict[str, Function]:
        """The application's functions by logical id, with those parameters."""
        return self.project.functions(self._values())

    def variables(self, function: Function) -> dict[str, str]:
        """All of the function's variables: the template's, but for those that would lead it elsewhere."""
        return {**self.environment(), **function.environment, **self.led_here(function)}

    def led_here(self, function: Function) -> dict[str, str]:
        """The function's variables that are not as the template has them, so that it finds this stack."""
        given: dict[str, str] = {AWS_VARIABLE: self.aws.endpoint}
        if role := self.project.role(function):
            given |= {name: "" for name in ELSEWHERE if name in function.variables}
            given |= {SECRET_VARIABLE: self._secret_ids[role]}
            if self._host is not None:
                given[SSL_VARIABLE] = "disable"
        return {**given, **self.project.variables}

    def unknown(self, function: Function) -> list[str]:
        """The function's variables that are empty because only a deployed stack knows them."""
        return [name for name in function.unknown if name not in self.led_here(function)]

    def create_events(self, function: str) -> list[dict[str, Any]]:
        """What ``function`` is sent when CloudFormation creates the custom resources behind it."""
        template = self.project.template
        known = template.intrinsics(self._values())
        return [
            create_event(name, resource, url=self._callbacks.url)
            for name, resource in template.resources.items()
            if known.reference(section(resource, "Properties").get("ServiceToken")).partition(".")[0] == function
        ]

    def refusal(self) -> str | None:
        """Why a custom resource failed, by what CloudFormation was told since the last call; None if none did."""
        told = self._callbacks.take()
        if not told:
            return "CloudFormation was told nothing"
        return next((answer.get("Reason", "") for answer in told if answer.get("Status") != "SUCCESS"), None)

    def payload(self, case: Case) -> Any:
        """The case's payload, with CloudFormation's URL, where it has one, turned to the receiver here."""
        if not isinstance(case.payload, dict) or "ResponseURL" not in case.payload:
            return case.payload
        return case.payload | {"ResponseURL": self._callbacks.url}

    def problem(self, case: Case, answer: object) -> str | None:
        """What is not as the case expects: of the answer, then of what CloudFormation was told. None if nothing is."""
        told = self._callbacks.take()
        if found := case.problem(answer):
            return found
        return mismatch([case.callback] if case.callback else [], told, "the callback")

    def _values(self) -> dict[str, str]:
        """What is known of all that a template can refer to: its parameters, and where it makes the secrets, those."""
        project, values = self.project, dict(self.project.parameters)
        functions = project.functions(values)
        values |= {name: self._secret_ids[role] for name, role in project.secrets.items() if name not in functions}
        for function in functions.values():
            for variable, value in self.led_here(function).items():
                match function.variables.get(variable):
                    case {"Ref": str(name)} if name in project.template.parameters:
                        values[name] = value
        return values
