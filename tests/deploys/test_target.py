"""An environment's names, and the file that git does not know."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from devkit.app.errors import ProjectError
from devkit.app.template import Template
from devkit.deploys import versions
from devkit.deploys.target import Target

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "deploy" / "example.toml").read_text()


def test_the_first_environment_has_the_plain_names_and_every_other_its_own() -> None:
    """`sam logs` finds the plain one without being told."""
    dev, prod = Target.read(ROOT, "dev"), Target.read(ROOT, "prod")
    assert (prod.stack, prod.database_stack) == (f"{dev.stack}-prod", f"{dev.stack}-prod-database")
    assert (dev.make("deploy"), prod.make("deploy")) == ("make deploy", "make deploy ENV=prod")
    assert prod.make("destroy", "DATABASE=yes") == "make destroy ENV=prod DATABASE=yes"


@pytest.mark.parametrize("name", ["Prod", "a/b", "", "-x", "example"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    """CloudFormation would refuse it, or the file would be another one."""
    with pytest.raises(ProjectError, match="ENV="):
        Target.read(ROOT, name)


def test_a_name_too_long_for_what_is_named_after_the_stack_is_refused() -> None:
    """Lambda takes 64 letters, and the rotations have the stack's name and some of their own."""
    with pytest.raises(ProjectError, match="more than 50 letters"):
        Target.read(ROOT, "p" * 50)


def test_a_file_becomes_texts_as_cloudformation_takes_them(project: Path) -> None:
    """Numbers, truth and lists among them."""
    (project / "deploy/prod.toml").write_text(
        'region = "eu-central-1"\nprofile = "p"\n[database]\nMinCapacity = 0.5\nMonthlyBudget = 1234567.0\n'
        "DeletionProtection = false\n"
        '[application]\nSubnetIds = ["subnet-1", "subnet-2"]\n'
    )
    target = Target.read(project, "prod")
    assert dict(target.database) == {"MinCapacity": "0.5", "MonthlyBudget": "1234567", "DeletionProtection": "false"}
    assert dict(target.application) == {"SubnetIds": "subnet-1,subnet-2"}
    assert target.where() == ["--profile", "p", "--region", "eu-central-1"]


def test_all_that_is_wrong_with_a_file_is_said_at_once(project: Path) -> None:
    """With the key of each."""
    (project / "deploy/dev.toml").write_text("region = 1\nVpcId = 'vpc-1'\n[database]\nTokens = {}\n")
    with pytest.raises(ProjectError) as caught:
        Target.read(project)
    said = str(caught.value)
    assert "VpcId is no key; the keys are profile, region, account, application, database, versions" in said
    assert "region is not a text: 1" in said
    assert "database.Tokens is neither text, number nor list of texts" in said


@pytest.mark.parametrize("name", ["deploy/dev.toml", "samconfig.toml"])
def test_a_file_that_is_no_text_is_a_sentence(project: Path, name: str) -> None:
    """As one that an editor has kept in Latin-1."""
    (project / name).write_bytes('profile = "Jürgen"'.encode("latin-1"))
    with pytest.raises(ProjectError, match=rf"{name}: 'utf-8' codec can't decode"):
        Target.read(project)


@pytest.mark.parametrize("text", ["default = 1", "[default]\nglobal = []", "[default.global]\nparameters = 1"])
def test_a_samconfig_of_another_shape_names_no_stack(project: Path, text: str) -> None:
    """A sentence, whatever stands there."""
    (project / "samconfig.toml").write_text(text)
    with pytest.raises(ProjectError, match="is to name the stack"):
        Target.read(project)


def test_a_file_that_is_not_there_is_no_environment(project: Path) -> None:
    """ENV=prd would be a second production otherwise."""
    with pytest.raises(ProjectError, match=r"deploy/prd.toml is not there: make account ENV=prd writes it"):
        Target.read(project, "prd").check_file()


def test_parameters_in_samconfig_are_refused_with_where_they_go(project: Path) -> None:
    """They would have no effect: the command line wins, and it names every parameter."""
    with (project / "samconfig.toml").open("a") as file:
        file.write('parameter_overrides = "VpcId=vpc-1"\n')
    with pytest.raises(ProjectError, match=r"put the values under \[application\] in deploy/dev.toml"):
        Target.read(project)


def test_the_example_is_a_file_that_can_be_read() -> None:
    """Copied as it is, and with all of its comments taken off that hold a value."""
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line.partition("#")[2] else line for line in EXAMPLE.splitlines()
    )
    as_it_is, whole = tomllib.loads(EXAMPLE), tomllib.loads(uncommented)
    assert as_it_is["application"] == {}
    assert {"profile", "region", "account"} <= whole.keys()
    for table, template in (("application", "template.yaml"), ("database", "database.yaml")):
        assert whole[table].keys() <= Template(ROOT / template).parameters.keys()
    assert as_it_is["versions"] == {}
    assert whole["versions"].keys() == set(versions.KEYS)


def test_the_example_names_every_parameter_that_has_no_default() -> None:
    """So that a database of one's own is a file filled in, and nothing to be found out."""
    without = {name for name, one in Template(ROOT / "template.yaml").parameters.items() if "Default" not in one}
    assert {name for name in without if f"# {name} = " not in EXAMPLE} == set()


def test_git_does_not_know_the_file_of_one_s_own() -> None:
    """It holds an account's ids."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert ignored.index("deploy/*.toml") < ignored.index("!deploy/example.toml")
