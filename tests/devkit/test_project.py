"""What a project is, by its template and ``[tool.devkit]``; and what cannot be one, by name."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from devkit.app.errors import ProjectError
from devkit.app.project import Project, role_for
from devkit.app.pyproject import DevkitTable

ROOT = Path(__file__).parents[2]


def function(secret: Any = None, **properties: Any) -> dict[str, Any]:
    """A function of the folder's own, that enters with ``secret``."""
    variables = {} if secret is None else {"DB_SECRET_ID": secret}
    return {
        "Type": "AWS::Serverless::Function",
        "Properties": {"Handler": "app.handler", "Runtime": "python3.13", "CodeUri": "."}
        | ({"Environment": {"Variables": variables}} if variables else {})
        | properties,
    }


def project(folder: Path, resources: Any, *, table: str = "", parameters: Any = None, **sections: Any) -> Project:
    """A project in ``folder`` whose template has ``resources``, and whose ``[tool.devkit]`` is ``table``."""
    declared = {"Parameters": {name: {"Type": "String"} for name in parameters}} if parameters else {}
    (folder / "template.json").write_text(json.dumps({"Resources": resources, **declared, **sections}))
    if table:
        (folder / "pyproject.toml").write_text(f"[tool.devkit]\n{table}")
    return Project.find(folder)


@pytest.mark.parametrize(
    ("secret", "role"),
    [
        ("AppSecretId", "app"),
        ("ReportSecretArn", "report"),
        ("OrderIntakeSecret", "order_intake"),
        ("SecretArn", "app"),
        ("prod/billing", "billing"),
        ("arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/billing-a1B2c3", "billing"),
        ("Cluster.MasterUserSecret.SecretArn", "cluster"),
    ],
)
def test_a_role_is_called_as_its_secret(secret: str, role: str) -> None:
    """Whatever DB_SECRET_ID refers to: a parameter, a resource, an attribute, a name, an ARN."""
    assert role_for(secret) == role


def test_roles_come_from_the_template(tmp_path: Path) -> None:
    """One for each secret; the only one owns the database, which is called app."""
    found = project(tmp_path, {"F": function({"Ref": "NotesSecret"}), "G": function({"Ref": "NotesSecret"})})
    assert (found.roles, found.owner, found.database) == (("notes",), "notes", "app")
    assert {found.role(one) for one in found.functions().values()} == {"notes"}


def test_the_table_says_what_the_template_does_not(tmp_path: Path) -> None:
    """A role under another name, one that no function uses, one for a function without a secret, and the owner."""
    found = project(
        tmp_path,
        {"F": function({"Ref": "AppSecret"}), "G": function(Environment={"Variables": {"DB_AUTH": "iam"}})},
        parameters=["AppSecret"],
        table="""
            database = "notes"
            owner = "notes_owner"
            roles = ["dashboards"]
            secrets = { AppSecret = "notes_app", G = "notes_batch" }
        """,
    )
    assert (found.database, found.roles) == ("notes", ("notes_app", "notes_batch", "dashboards", "notes_owner"))
    assert {name: found.role(one) for name, one in found.functions().items()} == {"F": "notes_app", "G": "notes_batch"}


def test_the_database_is_the_one_that_the_functions_are_told(tmp_path: Path) -> None:
    """DB_NAME in the template is the database's name."""
    named = {"Variables": {"DB_SECRET_ID": "s", "DB_NAME": {"Ref": "Name"}}}
    parameters = {"Name": {"Type": "String", "Default": "notes"}}
    assert project(tmp_path, {"F": function(Environment=named)}, Parameters=parameters).database == "notes"


def test_the_owner_is_who_migrates_at_deploy(tmp_path: Path) -> None:
    """The role of the function behind a custom resource, where no role is called owner."""
    resources = {
        "F": function({"Ref": "AppSecret"}),
        "M": function({"Ref": "DdlSecret"}),
        "Migration": {"Type": "Custom::Migration", "Properties": {"ServiceToken": {"Fn::GetAtt": ["M", "Arn"]}}},
    }
    assert project(tmp_path, resources).owner == "ddl"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('databse = "x"', "tool.devkit.databse is no key; the keys are template, events, database, owner, secrets"),
        ("database = 5", "tool.devkit.database is not a text: 5"),
        ('roles = "app"', "tool.devkit.roles is not a list of texts: 'app'"),
        ("secrets = { A = [] }", "tool.devkit.secrets is not a table of texts: {'A': []}"),
        ('owner = 1\nevents = ""', "tool.devkit.owner is not a text: 1; tool.devkit.events is not a text: ''"),
        ('template = "sam.yaml"', "tool.devkit.template: no file sam.yaml"),
        ('secrets = { Nobody = "app" }', "tool.devkit.secrets.Nobody: template.json has no such parameter"),
        ('parameters = { Nobody = "x" }', "tool.devkit.parameters.Nobody: template.json has no such parameter"),
        ('database = "postgres"', "tool.devkit.database has to give another name than 'postgres'"),
        ('roles = ["pg_mine"]', "tool.devkit.secrets (or owner, or roles) has to give another name than 'pg_mine'"),
        ("database = ", "pyproject.toml: "),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, table: str, problem: str) -> None:
    """With the file, and everything that is wrong of its kind at once."""
    with pytest.raises(ProjectError) as raised:
        project(tmp_path, {"F": function()}, table=table)
    assert problem in str(raised.value)
    assert "pyproject.toml" in str(raised.value)


def test_a_secret_whose_role_would_be_reserved_is_told(tmp_path: Path) -> None:
    """``PostgresSecret`` would let in the superuser; the table gives the role another name."""
    resources = {"F": function({"Ref": "PostgresSecret"})}
    with pytest.raises(ProjectError, match=r"tool\.devkit\.secrets .* another name than 'postgres'"):
        project(tmp_path, resources, parameters=["PostgresSecret"])
    table = 'secrets = { PostgresSecret = "notes" }'
    assert project(tmp_path, resources, parameters=["PostgresSecret"], table=table).roles == ("notes",)


def test_a_function_s_own_entry_stands_before_its_secret_s(tmp_path: Path) -> None:
    """What its secret is called says nothing any more."""
    assert project(tmp_path, {"F": function({"Ref": "AppSecret"})}, table='secrets = { F = "notes" }').roles == (
        "notes",
    )


def test_two_roles_and_no_owner_is_a_question(tmp_path: Path) -> None:
    """Nothing says which of them makes the tables."""
    with pytest.raises(ProjectError, match=r"tool\.devkit\.owner: which of app, report makes the tables\?"):
        project(tmp_path, {"F": function({"Ref": "AppSecret"}), "G": function({"Ref": "ReportSecret"})})


@pytest.mark.parametrize("variables", [{"DB_URL": "postgresql://prod/notes"}, {"DB_AUTH": "iam"}])
def test_a_function_that_would_go_to_another_database_is_refused(tmp_path: Path, variables: Any) -> None:
    """An address or a token of the template leads to a real one."""
    with pytest.raises(ProjectError, match=r"tool\.devkit\.secrets\.F: the role that it enters as"):
        project(tmp_path, {"F": function(Environment={"Variables": variables})})


@pytest.mark.parametrize(
    ("template", "problem"),
    [("Resources: [", "template.yaml: "), ("- a", "has no Resources"), ("Resources:", "has no Resources")],
)
def test_what_is_no_template_is_told(tmp_path: Path, template: str, problem: str) -> None:
    """With its path."""
    (tmp_path / "template.yaml").write_text(template)
    with pytest.raises(ProjectError, match=problem):
        Project.find(tmp_path)


def test_the_project_is_the_nearest_upward(tmp_path: Path) -> None:
    """One within another is its own; a file stands for its folder."""
    inner = tmp_path / "services" / "inner"
    inner.mkdir(parents=True)
    project(tmp_path, {"F": function()})
    project(inner, {"F": function()})
    assert Project.find(inner / "src" / "app.py").root == inner.resolve()
    assert Project.find(inner.parent).root == Project.at(tmp_path).root == tmp_path.resolve()


def test_a_folder_that_is_named_is_not_looked_for_above(tmp_path: Path) -> None:
    """A slip of the pen would run another application."""
    project(tmp_path, {"F": function()})
    with pytest.raises(ProjectError, match=r"no template\.yaml in .*/typo, which is to be"):
        Project.at(tmp_path / "typo")


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"Runtime": "nodejs22.x"}, "F has the Runtime nodejs22.x; what runs here is Python"),
        ({"PackageType": "Image"}, "F is an image"),
        ({"InlineCode": "def handler(*_): ..."}, "F is inline code"),
        ({"CodeUri": "s3://bucket/key"}, "F has the CodeUri s3://bucket/key, which is no folder here"),
        ({"CodeUri": {"Bucket": "b", "Key": "k"}}, "F has the CodeUri None, which is no folder here"),
        ({"Handler": None}, "F has no Handler"),
    ],
)
def test_a_function_that_cannot_run_here_says_why(tmp_path: Path, properties: Any, reason: str) -> None:
    """It is not among the functions, and the rest of the application is."""
    found = project(tmp_path, {"F": function(**properties), "G": function()})
    assert found.functions().keys() == {"G"}
    assert str(found.template.unsupported("F")).startswith(reason)


@pytest.mark.parametrize(
    ("layer", "folders"),
    [
        ({"Properties": {"ContentUri": "built"}}, ["built/python"]),
        ({"Properties": {"ContentUri": "source"}, "Metadata": {"BuildMethod": "python3.13"}}, ["source"]),
        ({"Properties": {"ContentUri": "source"}, "Metadata": {"BuildMethod": "makefile"}}, []),
        ({"Properties": {"ContentUri": {"Bucket": "b", "Key": "k"}}}, []),
    ],
)
def test_a_layer_is_imported_from_where_its_modules_lie(tmp_path: Path, layer: Any, folders: list[str]) -> None:
    """One that a makefile fills, or that lies in a bucket, is installed beside the kit or not there."""
    for folder in ("built/python", "source"):
        (tmp_path / folder).mkdir(parents=True)
    resources = {
        "F": function(Layers=[{"Ref": "Shared"}, "arn:aws:lambda:us-east-1:123456789012:layer:theirs:1"]),
        "Shared": {"Type": "AWS::Serverless::LayerVersion", **layer},
    }
    found = project(tmp_path, resources).functions()["F"]
    assert list(found.layers) == [(tmp_path / folder).resolve() for folder in folders]


@pytest.mark.parametrize("timeout_s", [{"Ref": "Limit"}, {"Fn::ImportValue": "limit"}])
def test_a_limit_that_is_not_known_is_lambdas_own(tmp_path: Path, timeout_s: Any) -> None:
    """Such as a parameter without a default, until the table gives it a value. Whoever runs the function can say so."""
    found = project(tmp_path, {"F": function(Timeout=timeout_s)}, parameters=["Limit"]).functions()["F"]
    assert (found.timeout_s, found.assumed) == (3, {"Timeout": 3})


@pytest.mark.parametrize("stage", [{"Ref": "Stage"}, {"Fn::ImportValue": "stage"}])
def test_a_condition_that_is_not_known_stops_nothing(tmp_path: Path, stage: Any) -> None:
    """A layer that may be there is not, and a secret that may be another is whichever: the table can say."""
    conditions = {"IsLive": {"Fn::Equals": [{"Fn::FindInMap": ["Kinds", stage, "kind"]}, "live"]}}
    resources = {
        "F": function(
            {"Fn::If": ["IsLive", {"Ref": "LiveSecret"}, {"Ref": "TestSecret"}]},
            Layers=[{"Fn::If": ["IsLive", {"Ref": "Shared"}, {"Ref": "AWS::NoValue"}]}],
        )
    }
    found = project(
        tmp_path,
        resources,
        parameters=["Stage"],
        table='secrets = { F = "notes" }',
        Conditions=conditions,
        Mappings={"Kinds": {"dev": {"kind": "test"}}},
    )
    assert (found.roles, found.functions()["F"].layers) == (("notes",), ())


def test_a_limit_that_is_no_number_is_told(tmp_path: Path) -> None:
    """CloudFormation would refuse it too."""
    with pytest.raises(ProjectError, match=r"F has the Timeout soon, which is no number"):
        project(tmp_path, {"F": function(Timeout="soon")})


def test_parameters_of_the_table_say_what_can_run(tmp_path: Path) -> None:
    """A runtime and a folder may be parameters."""
    resources = {"F": function(Runtime={"Ref": "Python"}, CodeUri={"Ref": "Folder"})}
    table = 'parameters = { Python = "python3.13", Folder = "." }'
    found = project(tmp_path, resources, parameters=["Python", "Folder"], table=table)
    assert found.template.unsupported("F") is None
    assert found.functions()["F"].runtime == "python3.13"


def test_parameters_of_the_table_say_who_migrates(tmp_path: Path) -> None:
    """The owner is the role of the function behind a custom resource, whichever secret it is given."""
    secret = {"Fn::If": ["IsLive", {"Ref": "LiveSecret"}, {"Ref": "DdlSecret"}]}
    resources = {
        "F": function({"Ref": "AppSecret"}),
        "M": function(secret),
        "Migration": {"Type": "Custom::Migration", "Properties": {"ServiceToken": {"Fn::GetAtt": ["M", "Arn"]}}},
    }
    conditions = {"IsLive": {"Fn::Equals": [{"Ref": "Stage"}, "live"]}}
    table = 'parameters = { Stage = "live" }'
    found = project(tmp_path, resources, parameters=["Stage"], table=table, Conditions=conditions)
    assert found.owner == "live"


def test_a_parameter_has_the_value_of_the_table(tmp_path: Path) -> None:
    """A number is written as one."""
    table = "parameters = { Limit = 7 }"
    found = project(tmp_path, {"F": function(Timeout={"Ref": "Limit"})}, parameters=["Limit"], table=table)
    assert found.functions()["F"].timeout_s == 7


def test_globals_are_what_a_function_does_not_say_itself(tmp_path: Path) -> None:
    """Variables are joined, all else is the function's own where it has it."""
    shared = {
        "Runtime": "python3.13",
        "Timeout": 7,
        "MemorySize": 1024,
        "Environment": {"Variables": {"A": 1, "B": True}},
    }
    own = {"Type": "AWS::Serverless::Function", "Properties": {"Handler": "a.b", "CodeUri": ".", "Timeout": 9}}
    own["Properties"] |= {"Environment": {"Variables": {"A": 2}}}  # type: ignore[operator]
    (found,) = project(tmp_path, {"F": own}, Globals={"Function": shared}).functions().values()
    assert (found.timeout_s, found.memory_mb, found.code) == (9, 1024, tmp_path.resolve())
    assert found.environment == {"A": "2", "B": "true"}


def document() -> str:
    """The page with the table of keys, on whichever shelf it stands."""
    (page,) = (text for path in (ROOT / "docs").rglob("*.md") if "| `template` | the SAM" in (text := path.read_text()))
    return page


def test_the_documented_keys_are_the_keys() -> None:
    """In the order of the table that is read, each with its default."""
    _, _, table = document().partition("| key | is | default |\n|---|---|---|\n")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", table.partition("\n\n")[0], re.MULTILINE)
    assert rows == [field.name for field in dataclasses.fields(DevkitTable)]


def test_the_documented_table_is_one(tmp_path: Path) -> None:
    """For an application with its two parameters."""
    (table,) = re.findall(r"^```toml\n\[tool\.devkit\]\n(.*?)^```", document(), re.DOTALL | re.MULTILINE)
    found = project(
        tmp_path,
        {"F": function({"Ref": "AppSecretArn"}), "M": function({"Ref": "MigrationSecretArn"})},
        parameters=["AppSecretArn", "MigrationSecretArn"],
        table=table,
    )
    assert (found.database, found.owner, found.roles) == ("notes", "notes_owner", ("notes_app", "notes_owner"))
