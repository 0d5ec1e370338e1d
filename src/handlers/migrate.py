"""Migrations at deploy, as a CloudFormation custom resource. Invoked by hand, it migrates and returns the same data.

Whatever happens, the ResponseURL is answered: a stack whose resource stays silent waits for as long as ServiceTimeout.
So this module needs nothing but Python: what a layer brings may be missing, and that is an answer as well.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    # What there is to tell: the revisions before and after, and a reason.
    Migrate = Callable[[dict[str, Any], Any], tuple[dict[str, str | None], str]]

# Lambda writes it in its own format, with the level and the request.
logger = logging.getLogger(__name__)

VERSIONS = Path(__file__).parent / "migrations" / "versions"
# The secrets of the roles that are made where MASTER_SECRET_ID names a master, or their names where they enter with
# tokens; the owner's are DB_SECRET_ID and DB_USER.
ROLES = {"secret": ("APP_SECRET_ID", "REPORT_SECRET_ID"), "iam": ("APP_ROLE", "REPORT_ROLE")}
# What of it is open to all tenants by intent, each with the reason.
ALLOWED = {"policy report on orders": "the report adds up the orders of all tenants"}
PHYSICAL_ID = "database-schema"
_ANSWER_TIMEOUT_S = 10
_REACH_TIMEOUT_S = 2
# CloudFormation refuses an answer of more than 4,096 bytes. A character takes up to four; ids and braces, with what is
# added to an error here, take half of the rest.
_REASON_CHARS = 500

# The template's parameters behind the variables that a reason may name: who deploys knows those. Tests compare them.
PARAMETERS = {
    "DB_SECRET_ID": ("OwnerSecretId",),
    "MASTER_SECRET_ID": ("MasterSecretId",),
    "APP_SECRET_ID": ("AppSecretId",),
    "REPORT_SECRET_ID": ("ReportSecretId",),
    "APP_ROLE": ("AppRole",),
    "REPORT_ROLE": ("ReportRole",),
    "DB_AUTH": ("DatabaseAuth",),
    "DB_USER": ("OwnerRole",),
    "DB_HOST": ("DatabaseHost", "WriterHost"),
    "DB_PORT": ("DatabasePort",),
    "DB_READER_HOST": ("ReaderHost",),
    "DB_NAME": ("DatabaseName",),
    "DB_SSLMODE": ("SslMode",),
    "DB_SSLROOTCERT": ("SslRootCert",),
    "DB_POOL": ("PoolKind",),
    "AWS_ENDPOINT_URL_SECRETS_MANAGER": ("SecretsEndpoint",),
}
# What an error comes from that names no variable, and the parameters that may be the cause.
MISSING = ("the layer lacks it, or is built for another processor", ("Architecture",))
NO_SECRETS_MANAGER = (
    "it may be the endpoint, its security group, or the way there from the subnets",
    ("SecretsEndpoint", "SecretsEndpointSecurityGroupId", "SubnetIds"),
)
NO_DATABASE = (
    "it may be the address, the login, or the way there from the subnets",
    (
        *("DatabaseHost", "WriterHost", "DatabasePort", "DatabaseName", "OwnerSecretId", "MasterSecretId"),
        *("DatabaseSecurityGroupId", "SubnetIds"),
    ),
)
# No parameter: Lambda grants no more.
TOO_LONG = ("the time was over that is Timeout of MigrateFunction: divide the migration, or run it by hand", ())
# query_canceled, as by the limit that a statement has; transaction_timeout
_OVERDUE = {"57014", "25P04"}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    if "ResponseURL" in event and not _reaches(event["ResponseURL"]):
        _tell_of_no_way(event["ResponseURL"])
    status, reason = "SUCCESS", ""
    data: dict[str, str | None] = {}
    try:
        # Delete is also what a rolled-back creation sends. A schema outlives its stack: data is not ours to drop.
        if event.get("RequestType") != "Delete":
            data, reason = _migrate(event, context)
    except Exception as error:
        logger.exception("migration failed")
        if "ResponseURL" not in event:
            raise
        status, reason = "FAILED", _reason(error)
    if "ResponseURL" in event:
        _answer(event, status, reason, data)
    return {"status": status, "reason": reason, **data}


def _upgrade(event: dict[str, Any], _context: Any) -> tuple[dict[str, str | None], str]:
    # Alembic is this function's alone, and loads when there is something to do.
    from aws_lambda_powertools import Logger

    from db import migrations

    logger = Logger()
    if master := os.environ.get("MASTER_SECRET_ID"):
        variables = ROLES["iam" if os.environ.get("DB_AUTH") == "iam" else "secret"]
        made = migrations.make_roles(master, used_by=[os.environ[name] for name in variables if os.environ.get(name)])
        logger.info("roles", made=made)
    # An update that is rolled back is one more Update, whose older properties are those of the release that failed.
    previous = (event.get("OldResourceProperties") or {}).get("Revision")
    done = migrations.upgrade(VERSIONS, previous=previous, allowed=ALLOWED)
    reason = f"the schema is at {done.after}, ahead of this code: nothing was changed" if done.ahead else ""
    if done.ahead:
        logger.warning(reason)
    logger.info("migrated", before=done.before, after=done.after)
    return {"before": done.before, "after": done.after}, reason


def _loaded() -> Migrate:
    """``_upgrade`` as an invocation; where that cannot be imported, what raises why when there is somebody to tell."""
    try:
        from aws_lambda_powertools import Logger

        import db
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        problem = error

        def refuse(_event: dict[str, Any], _context: Any) -> tuple[dict[str, str | None], str]:
            raise problem

        return refuse
    migrate: Migrate = Logger().inject_lambda_context(db.invocation(_upgrade))
    return migrate


# As the module is loaded, for that is when `db` can prepare for the environment's end.
_migrate = _loaded()


def _reason(error: Exception) -> str:
    """What ``error`` says, and the parameters that it may come from."""
    said = f"{type(error).__name__}: {error}"
    named = [name for variable, names in PARAMETERS.items() if _is_about(variable, said) for name in names]
    cause, others = _cause(error)
    concerned = list(dict.fromkeys([*named, *others]))
    return (
        said[:_REASON_CHARS]
        + (f"; {cause}" if cause else "")
        + (f" (in the template: {', '.join(concerned)})" if concerned else "")
    )


def _is_about(variable: str, said: str) -> bool:
    # An error names a secret and not the variable that holds its id.
    held = os.environ.get(variable) if variable.endswith("SECRET_ID") else None
    return bool(re.search(rf"\b{variable}\b", said)) or bool(held and repr(held) in said)


def _cause(error: Exception) -> tuple[str, tuple[str, ...]]:
    if isinstance(error, ImportError) or isinstance(error.__cause__, ImportError):
        return MISSING
    # By name: the classes may be among what cannot be imported.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    code = getattr(getattr(error, "orig", None), "sqlstate", None)
    if "CredentialsError" in kinds and getattr(error, "transient", False):
        return NO_SECRETS_MANAGER
    if "DeadlineError" in kinds or code in _OVERDUE:
        return TOO_LONG
    if "OperationalError" in kinds and code is None:  # the server's answer to a statement has one
        return NO_DATABASE
    return "", ()


def _reaches(url: str) -> bool:
    """Whether a connection to where ``url`` leads is there within two seconds; none is without a way to S3."""
    to, reached = urlsplit(url), threading.Event()

    def connect() -> None:
        address = to.hostname or "", to.port or (443 if to.scheme == "https" else 80)
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=_REACH_TIMEOUT_S):
            reached.set()

    # In a thread, for the limit is one of each address that the name has, and there is none for the name itself.
    looking = threading.Thread(target=connect, daemon=True)
    looking.start()
    looking.join(_REACH_TIMEOUT_S)
    return reached.is_set()


def _tell_of_no_way(url: str) -> None:
    logger.error(
        "CloudFormation cannot be told how this ends, and waits for it until the resource's ServiceTimeout: no way to "
        "%s from the function's subnets, which need a NAT gateway or a gateway endpoint for S3",
        urlsplit(url).hostname,
    )


def _answer(event: dict[str, Any], status: str, reason: str, data: dict[str, Any]) -> None:
    body = {
        "Status": status,
        "Reason": reason or "done",
        "PhysicalResourceId": event.get("PhysicalResourceId", PHYSICAL_ID),
        "StackId": event.get("StackId"),
        "RequestId": event.get("RequestId"),
        "LogicalResourceId": event.get("LogicalResourceId"),
        "Data": data,
    }
    # S3 signed the URL for an empty content type.
    request = urllib.request.Request(  # noqa: S310 - CloudFormation's own URL
        event["ResponseURL"],
        data=json.dumps(body, ensure_ascii=False).encode(errors="replace"),
        method="PUT",
        headers={"Content-Type": ""},
    )
    with urllib.request.urlopen(request, timeout=_ANSWER_TIMEOUT_S):  # noqa: S310 - as above
        pass
