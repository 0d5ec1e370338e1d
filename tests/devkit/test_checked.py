"""``python -m devkit check`` on an application: what it is silent about, and what it fails for."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from devkit import cli

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  AppSecretId: {{ Type: String }}
  OwnerSecretId: {{ Type: String }}
Globals:
  Function: {{ CodeUri: src/, Runtime: python3.13, Timeout: 30 }}
Resources:
  NotesFunction:
    Type: AWS::Serverless::Function
    Properties:
      Handler: notes.handler
      Environment: {{ Variables: {{ DB_SECRET_ID: !Ref AppSecretId{variables} }} }}
  SchemaFunction:
    Type: AWS::Serverless::Function
    Properties:
      Handler: schema.handler
      Environment: {{ Variables: {{ DB_SECRET_ID: !Ref OwnerSecretId }} }}
  Schema:
    Type: Custom::Schema
    Properties: {{ ServiceToken: !GetAtt SchemaFunction.Arn }}
"""
SCHEMA = """
import json
import urllib.request
from pathlib import Path

import db
from db import migrations

ALLOWED = {"rates for app": "they are the same for every tenant"}


@db.invocation
def handler(event, context):
    answer = {"Status": "SUCCESS", "PhysicalResourceId": "schema"}
    try:
        migrations.upgrade(Path(__file__).parent / "versions", allowed=ALLOWED)
    except Exception as error:
        answer |= {"Status": "FAILED", "Reason": str(error)}
    body = json.dumps(answer).encode()
    urllib.request.urlopen(urllib.request.Request(event["ResponseURL"], data=body, method="PUT")).close()
"""
VERSION = """
revision = "0001"
down_revision = None
import sqlalchemy as sa
from alembic import op
from db.migrations.operations import enable_tenant_rls, grant
def upgrade():
    tenant = sa.Column("tenant_id", sa.Text, nullable=False, server_default=sa.text("current_setting('app.tenant_id')"))
    op.create_table("notes", tenant, sa.PrimaryKeyConstraint("tenant_id"))
    enable_tenant_rls(op, "notes")
    grant(op, "SELECT, INSERT", "notes", to="app")
    op.create_table("rates", sa.Column("currency", sa.Text, primary_key=True))
    grant(op, "SELECT", "rates", to="app")
    {more}
"""


def application(folder: Path, *, variables: str = "", more: str = "") -> Path:
    """One table of tenants and one of everybody's, a function that reads them, and one that migrates."""
    files = {
        "template.yaml": TEMPLATE.format(variables=variables),
        "pyproject.toml": '[tool.devkit]\ndatabase = "notes"\nowner = "owner"\n',
        "src/notes.py": "def handler(event, context):\n    return None\n",
        "src/schema.py": SCHEMA,
        "src/versions/0001.py": VERSION.format(more=more),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content))
    return folder


def checked(root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "devkit", "check", "--root", str(root), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_what_is_to_be_done_fails_it(tmp_path: Path) -> None:
    """A setting, and a table that is everybody's and that nobody has spoken of; with the exception, the setting."""
    root = application(tmp_path, variables=', DB_POOL_PRE_PING: "false"')
    done = checked(root)
    assert done.returncode == 1, done.stderr
    assert "SchemaFunction: done, and its migrations keep tenants apart" in done.stdout
    assert "NotesFunction as app: 25 findings, 2 to do something about" in done.stdout
    assert "warning, liveness: DB_POOL_PRE_PING is off" in done.stdout
    assert "error, tenants: no-tenant: rates for app" in done.stdout
    (root / "template.yaml").write_text(TEMPLATE.format(variables=""))
    done = checked(root, "--allowed", "schema:ALLOWED")
    assert (done.returncode, "25 findings, 0 to do" in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_migration_that_leaves_tenants_open_fails_it(tmp_path: Path) -> None:
    """By the audit that refuses, before any function is looked at."""
    done = checked(application(tmp_path, more='op.execute("ALTER TABLE notes NO FORCE ROW LEVEL SECURITY")'))
    assert (done.returncode, done.stdout) == (1, "")
    assert "SchemaFunction: DB_TENANT_AUDIT=refuse: notes: row-level security does not bind its owner" in done.stderr


def test_what_has_no_database_cannot_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a sentence, and not a success."""
    (tmp_path / "template.yaml").write_text("Transform: AWS::Serverless-2016-10-31\nResources: {}")
    assert cli.main(["check", "--root", str(tmp_path)]) == 2
    assert "no function of the template enters a database" in capsys.readouterr().err
