"""What is wrong with a deploy's parameters is said to CloudFormation, at once and by the parameter's name."""

from __future__ import annotations

import importlib.util
import re
import shutil
import struct
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from db.credentials import get_secret
from db.settings import Settings
from devkit.app.cloudformation import Callbacks
from devkit.app.project import Project
from devkit.lambda_runtime.environment import LambdaEnvironment
from handlers import migrate

from .conftest import CLOSED_PORT, Enter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devkit.plugin import Database, MakeLambdaContext, PutSecret
    from devkit.servers.aws import LocalAws

pytestmark = pytest.mark.slow

PROJECT = Project.find(Path(__file__))
CODE = PROJECT.root / "src"
FUNCTION = "MigrateFunction"
CREATE = {"RequestType": "Create", "StackId": "stack", "RequestId": "r-1", "LogicalResourceId": "Migration"}
DELETE = CREATE | {"RequestType": "Delete"}
NOWHERE = f"http://127.0.0.1:{CLOSED_PORT}"
TWO_MINUTES_S = 120
LAMBDAS_MOST_S = 900
ELF_MACHINE, NONE_THAT_IS = 18, 0xFEED  # where an object file names its processor, and what none is named


class Deploy(Protocol):
    """What CloudFormation is told, of each event in turn, by a function with what is given in place of what is right.

    ``variables`` are the function's, ``login`` has keys of the secret or is its text, and the folders come before the
    code. It runs in the real Lambda runtime, for there Secrets Manager is asked as in Lambda.
    """

    def __call__(
        self,
        *before: Path,
        variables: Mapping[str, str] | None = None,
        login: Mapping[str, object] | str | None = None,
        events: tuple[dict[str, Any], ...] = (CREATE,),
    ) -> list[dict[str, Any]]: ...


@pytest.fixture
def callbacks() -> Iterator[Callbacks]:
    with Callbacks() as listening:
        yield listening


@pytest.fixture
def deploy(callbacks: Callbacks, database: Database, local_aws: LocalAws, secret: PutSecret) -> Deploy:
    def tell(
        *before: Path,
        variables: Mapping[str, str] | None = None,
        login: Mapping[str, object] | str | None = None,
        events: tuple[dict[str, Any], ...] = (CREATE,),
    ) -> list[dict[str, Any]]:
        name = f"owner-{uuid.uuid4()}"
        owner: dict[str, object] = {"username": database.owner, "password": database.owner_password}
        right = owner | {"host": database.host, "port": database.port, "dbname": database.name}
        secret(name, login if isinstance(login, str) else right | dict(login or {}))
        given = {"DB_SECRET_ID": name, "APP_ROLE": database.app, "REPORT_ROLE": database.app}
        with LambdaEnvironment(
            handler="handlers.migrate.handler",
            environment={**local_aws.environment(), **given, "DB_CONNECT_WAIT_S": "0", **(variables or {})},
            code=[*before, CODE],
            timeout_s=30,
        ) as function:
            for event in events:
                assert function.invoke(event | {"ResponseURL": callbacks.url}).error is None
        told: list[dict[str, Any]] = callbacks.take()
        return told

    return tell


WRONG = {
    "no secret": ({"DB_SECRET_ID": ""}, {}, "no database: set DB_SECRET_ID", {"OwnerSecretId"}),
    "a secret that is no JSON": ({}, "hunter2", "is not a JSON object", {"OwnerSecretId"}),
    "a secret without a password": ({}, {"password": None}, "key 'password' is missing", {"OwnerSecretId"}),
    "a secret of another engine": ({}, {"engine": "mysql"}, "other than PostgreSQL", {"OwnerSecretId"}),
    "a secret that is not there": ({"DB_SECRET_ID": "gone"}, {}, "there is no such secret", {"OwnerSecretId"}),
    "a master's secret that is not there": (
        {"MASTER_SECRET_ID": "nowhere"},
        {},
        "there is no such secret",
        {"MasterSecretId"},
    ),
    "a password that is refused": ({}, {"password": "old"}, "password authentication failed", {"OwnerSecretId"}),
    "no host": ({}, {"host": None}, "DB_HOST is not set", {"DatabaseHost", "WriterHost"}),
    "no database": ({}, {"dbname": None}, "DB_NAME is not set", {"DatabaseName"}),
    "a database that is not there": ({"DB_NAME": "gone"}, {}, 'database "gone" does not exist', {"DatabaseName"}),
    "a database that nothing answers for": (
        {"DB_HOST": "127.0.0.1", "DB_PORT": str(CLOSED_PORT)},
        {},
        "Connection refused",
        {"DatabaseHost", "WriterHost", "DatabasePort", "DatabaseSecurityGroupId", "SubnetIds"},
    ),
    "a host that has no address": (
        {"DB_HOST": "db.invalid", "DB_SSLMODE": "disable"},
        {},
        "'db.invalid'",
        {"DatabaseHost", "WriterHost"},
    ),
    "an endpoint that nothing answers for": (
        {"AWS_ENDPOINT_URL_SECRETS_MANAGER": NOWHERE},
        {},
        "Secrets Manager cannot be reached",
        {"SecretsEndpoint", "SecretsEndpointSecurityGroupId", "SubnetIds"},
    ),
    "an endpoint that is no URL": (
        {"AWS_ENDPOINT_URL_SECRETS_MANAGER": "vpce-0123"},
        {},
        "is no URL",
        {"SecretsEndpoint"},
    ),
    "no certificates": ({"DB_SSLMODE": "verify-full"}, {}, "needs DB_SSLROOTCERT", {"SslRootCert"}),
    "certificates that are not in the layer": (
        {"DB_SSLMODE": "verify-full", "DB_SSLROOTCERT": "/opt/certs/global-bundle.pem"},
        {},
        "names a file that does not exist",
        {"SslRootCert"},
    ),
}


@pytest.mark.parametrize(("variables", "login", "said", "parameters"), WRONG.values(), ids=list(WRONG))
def test_a_parameter_that_is_wrong_is_named(
    variables: dict[str, str], login: dict[str, object] | str, said: str, parameters: set[str], deploy: Deploy
) -> None:
    """Beside what is wrong with it, and without what the secret holds."""
    (told,) = deploy(variables=variables, login=login)
    assert told["Status"] == "FAILED"
    assert said in told["Reason"]
    assert parameters <= named(told["Reason"])
    assert "hunter2" not in told["Reason"]


def test_a_layer_that_is_missing_is_answered_for(tmp_path: Path, deploy: Deploy) -> None:
    """To a creation with FAILED, and to the deletion that follows with SUCCESS: the stack goes away."""
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "__init__.py").write_text("import not_in_the_layer\n")
    created, deleted = deploy(tmp_path, events=(CREATE, DELETE))
    assert (created["Status"], deleted["Status"]) == ("FAILED", "SUCCESS")
    assert created["Reason"].startswith("ModuleNotFoundError: No module named 'not_in_the_layer'; the layer lacks it")
    assert named(created["Reason"]) == {"Architecture"}


def test_a_layer_for_another_processor_is_answered_for(tmp_path: Path, deploy: Deploy) -> None:
    """By the loader's own words, and the parameter."""
    found = importlib.util.find_spec("psycopg_binary")
    assert found is not None
    assert found.origin is not None
    package = tmp_path / "psycopg_binary"
    shutil.copytree(Path(found.origin).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for built in package.glob("*.so"):
        content = bytearray(built.read_bytes())
        struct.pack_into("<H", content, ELF_MACHINE, NONE_THAT_IS)
        built.write_bytes(content)
    # Without it, libpq of this machine may serve.
    (told,) = deploy(tmp_path, variables={"PSYCOPG_IMPL": "binary"})
    assert told["Status"] == "FAILED"
    assert "cannot load what db needs" in told["Reason"]
    assert named(told["Reason"]) == {"Architecture"}


def test_a_migration_that_takes_longer_than_the_function_is_answered_for(
    enter: Enter,
    callbacks: Callbacks,
    lambda_context: MakeLambdaContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server cancels it while there is time to say so."""
    enter()
    sleeps = "from alembic import op\nrevision, down_revision = 'a1', None\ndef upgrade():\n"
    (tmp_path / "a1_slow.py").write_text(sleeps + "    op.execute('SELECT pg_sleep(60)')\n")
    monkeypatch.setattr(migrate, "VERSIONS", tmp_path)
    migrate.handler(CREATE | {"ResponseURL": callbacks.url}, lambda_context(remaining_s=2))
    (told,) = callbacks.take()
    assert told["Status"] == "FAILED"
    # Both limits of the server end where the function's time does, and either may be the first.
    assert re.search("due to (statement|transaction) timeout", told["Reason"])
    assert f"Timeout of {FUNCTION}" in told["Reason"]
    assert PROJECT.functions()[FUNCTION].timeout_s == LAMBDAS_MOST_S


def test_what_does_not_answer_is_waited_for_within_two_minutes() -> None:
    """By the defaults: one last connect may begin when the waiting ends, and Secrets Manager is asked before it."""
    default = Settings(secret_id="owner")
    asking_s = get_secret._ATTEMPTS * (get_secret._CONNECT_TIMEOUT_S + get_secret._READ_TIMEOUT_S)
    waited_s = default.connect_wait_s + default.connect_timeout_s + asking_s
    assert waited_s + migrate._REACH_TIMEOUT_S + migrate._ANSWER_TIMEOUT_S < TWO_MINUTES_S


def named(reason: str) -> set[str]:
    """The parameters that a reason refers to."""
    (listed,) = re.findall(r"\(in the template: ([^)]*)\)$", reason)
    return set(listed.split(", "))


def referred_to(value: object) -> Iterator[str]:
    match value:
        case {"Ref": str(name)}:
            yield name
        case dict():
            for inner in value.values():
                yield from referred_to(inner)
        case list():
            for inner in value:
                yield from referred_to(inner)


def test_the_parameters_are_those_behind_the_variables_of_the_template() -> None:
    """Of each variable that a reason may name: of `db`, of the roles, of AWS."""
    template = PROJECT.template
    behind = {
        variable: set(referred_to(value)) & set(template.parameters)
        for variable, value in PROJECT.functions()[FUNCTION].variables.items()
        if not variable.startswith("POWERTOOLS_")
    }
    assert {variable: set(names) for variable, names in migrate.PARAMETERS.items()} == {
        variable: names for variable, names in behind.items() if names
    }


@pytest.mark.parametrize("cause", [migrate.MISSING, migrate.NO_SECRETS_MANAGER, migrate.NO_DATABASE])
def test_a_parameter_that_a_cause_names_is_one_of_the_template(cause: tuple[str, tuple[str, ...]]) -> None:
    """Otherwise nobody finds it."""
    _, parameters = cause
    assert set(parameters) <= set(PROJECT.template.parameters)
