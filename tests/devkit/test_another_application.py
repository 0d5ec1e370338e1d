"""Applications that are not this repository's: each is made in a folder of its own and run by the command."""

from __future__ import annotations

import json
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Two functions with a folder each, a layer, no Globals; one enters as `visitor`, a custom resource's makes the table.
pytestmark = pytest.mark.slow

GUESTBOOK: dict[str, Any] = {
    "template.yaml": """\
        AWSTemplateFormatVersion: "2010-09-09"
        Transform: AWS::Serverless-2016-10-31
        Parameters:
          VisitorSecretArn: { Type: String }
          CuratorSecretArn: { Type: String }
          Welcome: { Type: String, Default: hello }
        Conditions:
          IsQuiet: !Equals [!Ref Welcome, ""]
        Resources:
          Book: { Type: "AWS::SQS::Queue" }
          Manners:
            Type: AWS::Serverless::LayerVersion
            Properties: { ContentUri: manners/ }
          SignFunction:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: sign/
              Layers: [!Ref Manners]
              Handler: app.lambda_handler
              Runtime: python3.13
              Timeout: 30
              Environment:
                Variables:
                  DB_SECRET_ID: !Ref VisitorSecretArn
                  DB_HOST: guestbook.cluster-abc.eu-central-1.rds.amazonaws.com
                  DB_SSLMODE: verify-full
                  GREETING: !If [IsQuiet, nothing, !Sub "${Welcome} from ${AWS::Region}"]
                  QUEUE_URL: !GetAtt Book.QueueUrl
          SchemaFunction:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: schema/
              Handler: handlers.on_event
              Runtime: python3.13
              Timeout: 30
              Environment: { Variables: { DB_SECRET_ID: !Ref CuratorSecretArn } }
          Schema:
            Type: Custom::Schema
            Properties: { ServiceToken: !GetAtt SchemaFunction.Arn }
    """,
    "pyproject.toml": """\
        [tool.devkit]
        database = "guestbook"
        parameters = { Welcome = "welcome" }
    """,
    "sign/app.py": """\
        import os

        import db
        from manners import polite
        from sqlalchemy import text

        @db.invocation
        def lambda_handler(event, context):
            with db.begin(tenant=event["hotel"]) as tx:
                tx.execute(text("INSERT INTO entries VALUES (current_setting('app.tenant_id'), :guest)"), event)
            with db.read() as conn:
                found = conn.execute(text("SELECT current_database(), current_user, array_agg(guest) FROM entries"))
                database, user, guests = found.one()
            return {"database": database, "user": user, "guests": guests, "greeting": polite(os.environ["GREETING"])}
    """,
    "manners/python/manners.py": """\
        def polite(words):
            return words.capitalize()
    """,
    "schema/handlers.py": """\
        import json
        import urllib.request

        import db
        from sqlalchemy import text

        @db.invocation
        def on_event(event, context):
            with db.begin() as tx:
                tx.execute(text("CREATE TABLE entries (hotel text NOT NULL, guest text NOT NULL)"))
                tx.execute(text("GRANT SELECT, INSERT ON entries TO visitor"))
            body = json.dumps({"Status": "SUCCESS", "PhysicalResourceId": "schema"}).encode()
            urllib.request.urlopen(urllib.request.Request(event["ResponseURL"], data=body, method="PUT")).close()
    """,
    "events/deploy.json": {"RequestType": "Create", "ResponseURL": "https://cloudformation.example/answer"},
    "events/first.json": {"hotel": "ritz", "guest": "Ada"},
    "events/second.json": {"hotel": "ritz", "guest": "Grace"},
    "events/nameless.json": {"hotel": "ritz", "guest": None},
    "events/catalogue.json": [
        {"event": "deploy", "function": "SchemaFunction", "expect": None, "callback": {"PhysicalResourceId": "schema"}},
        {"event": "first", "function": "SignFunction", "expect": {"guests": ["Ada"], "user": "visitor"}},
        {
            "event": "second",
            "function": "SignFunction",
            "expect": {"guests": ["Ada", "Grace"], "database": "guestbook", "greeting": "Welcome from us-east-1"},
        },
        {"event": "nameless", "function": "SignFunction", "expect": {"errorType": "IntegrityError"}},
    ],
}

# What `sam init` leaves behind, with a secret that the template makes: no parameters, no table, no catalogue.
COUNTER: dict[str, Any] = {
    "template.yml": """\
        Transform: AWS::Serverless-2016-10-31
        Resources:
          DatabaseSecret: { Type: "AWS::SecretsManager::Secret" }
          CountFunction:
            Type: AWS::Serverless::Function
            Properties:
              Handler: app.handler
              Runtime: python3.13
              CodeUri: count
              Timeout: 30
              Environment: { Variables: { DB_SECRET_ID: !Ref DatabaseSecret } }
    """,
    "count/app.py": """\
        import db
        from sqlalchemy import text

        @db.invocation
        def handler(event, context):
            with db.begin() as tx:
                tx.execute(text("CREATE TABLE IF NOT EXISTS counted (n int)"))
                tx.execute(text("INSERT INTO counted VALUES (:n)"), event)
                return tx.execute(text("SELECT count(*) FROM counted")).scalar()
    """,
    "events/event.json": {"n": 1},
    "events/count/again.json": {"n": 2},
    "events/count/wrong.json": {"n": "x"},
}

# A table of sizes by stage, and a stage that only a deploy would be given; a runtime that is a parameter.
STAGES: dict[str, Any] = {
    "template.yaml": """\
        Transform: AWS::Serverless-2016-10-31
        Parameters:
          Stage: { Type: String }
          Python: { Type: String }
          Patience: { Type: Number }
        Mappings:
          Sizes:
            dev: { mem: 512, seconds: 30 }
        Resources:
          StageFunction:
            Type: AWS::Serverless::Function
            Properties:
              Handler: app.handler
              Runtime: !Ref Python
              CodeUri: stage
              MemorySize: !FindInMap [Sizes, !Ref Stage, mem]
              Timeout: !FindInMap [Sizes, !Ref Stage, seconds]
          ImportingFunction:
            Type: AWS::Serverless::Function
            Properties:
              Handler: app.handler
              Runtime: !Ref Python
              CodeUri: stage
              MemorySize: !ImportValue shared-size
              Timeout: 30
          UncalledFunction:
            Type: AWS::Serverless::Function
            Properties: { Handler: app.handler, Runtime: !Ref Python, CodeUri: stage, Timeout: !Ref Patience }
    """,
    "pyproject.toml": """\
        [tool.devkit]
        parameters = { Stage = "dev", Python = "python3.13" }
    """,
    "stage/app.py": """\
        def handler(event, context):
            return {"mem": context.memory_limit_in_mb, "ms": context.get_remaining_time_in_millis() > 20_000}
    """,
    "events/a.json": {},
    "events/b.json": {},
    "events/catalogue.json": [
        {"event": "a", "function": "StageFunction", "expect": {"mem": "512", "ms": True}},
        {"event": "b", "function": "ImportingFunction", "expect": {"mem": "128", "ms": True}},
    ],
}


def written(folder: Path, files: Mapping[str, Any]) -> Path:
    """The folder, with the files in it: what is no text is JSON."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(content) if isinstance(content, str) else json.dumps(content))
    return folder


def devkit(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``python -m devkit`` as a user calls it, from a folder that is not this repository's."""
    command = [sys.executable, "-m", "devkit", *arguments]
    return subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=180)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def test_another_application_is_answered_as_its_catalogue_expects(tmp_path: Path, elsewhere: Path) -> None:
    """With its own roles, database, folders and custom resource; what leads to its real database is not used."""
    done = devkit("demo", "--root", written(tmp_path / "guestbook", GUESTBOOK), cwd=elsewhere)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 events answered as expected" in done.stdout
    assert "SignFunction: empty, as only a deployed stack knows it: QUEUE_URL" in done.stdout
    assert [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("nameless")] == [
        ["nameless", "IntegrityError"]
    ]


def test_events_need_no_catalogue_and_a_template_no_table(tmp_path: Path) -> None:
    """From a folder within: payloads go to the function that their folder is named after, and only a failure counts."""
    root = written(tmp_path / "counter", COUNTER)
    done = devkit("demo", cwd=root / "count")
    assert (done.returncode, "2 of 3 events answered as expected" in done.stdout) == (1, True), done.stderr
    assert "count/wrong: the function failed: DataError: " in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if " cold " in line or " warm " in line] == [
        "count/again",
        "count/wrong",
        "event",
    ]


@pytest.mark.parametrize("catalogue", [True, False])
def test_sizes_come_from_a_table_by_stage(tmp_path: Path, *, catalogue: bool) -> None:
    """The parameters of the project's own table hold wherever the template is read, with a catalogue and without."""
    files = {name: content for name, content in STAGES.items() if not name.startswith("events/")}
    files |= {"events/stage/a.json": {}, "events/importing/b.json": {}}
    done = devkit("demo", cwd=written(tmp_path / "stages", STAGES if catalogue else files))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 events answered as expected" in done.stdout
    assert (
        "ImportingFunction: its MemorySize is not known here, so it has Lambda's own, 128;"
        " tool.devkit.parameters gives a parameter its value" in done.stdout
    )
    assert "UncalledFunction" not in done.stdout


def test_a_folder_without_an_application_is_refused(elsewhere: Path) -> None:
    """In a sentence, without a traceback."""
    done = devkit("demo", cwd=elsewhere)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("no template.yaml in ")
    assert "Traceback" not in done.stderr
