"""Which value a parameter gets, and what is wrong with one before CloudFormation is asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from devkit.app.errors import ProjectError
from devkit.app.template import Template
from devkit.deploys import commands, concurrency, database, parameters
from devkit.deploys.concurrency import Room
from devkit.deploys.target import Target

ROOT = Path(__file__).parents[2]
DECLARED = {
    "VpcId": {"Type": "String"},
    "MaxConnections": {"Type": "Number", "Default": 80, "MinValue": 64, "MaxValue": 5000},
    "SslMode": {"Type": "String", "Default": "", "AllowedValues": ["", "disable"]},
    "Secret": {"Type": "String", "Default": "arn:x", "AllowedPattern": "arn:.+"},
}


def test_the_user_s_own_value_wins_over_an_output_and_that_over_a_default() -> None:
    """Defaults are passed as well: `sam deploy` would go on with the last deploy's value otherwise."""
    values = parameters.settled(
        DECLARED, {"VpcId": "mine"}, {"VpcId": "theirs", "SslMode": "disable", "WriterHost": "x"}
    )
    assert values == {"VpcId": "mine", "SslMode": "disable", "MaxConnections": "80", "Secret": "arn:x"}


def test_what_has_no_value_is_named_also_where_it_is_empty() -> None:
    """An empty text is what a form leaves."""
    assert parameters.missing(DECLARED, parameters.settled(DECLARED)) == ["VpcId"]
    assert parameters.missing(DECLARED, {"VpcId": ""}) == ["VpcId"]


def test_a_name_that_is_no_parameter_says_which_was_meant() -> None:
    """It would be ignored in silence."""
    problems = parameters.unknown(DECLARED, {"VpcID": "x", "Frobnicate": "y"}, "deploy/dev.toml: application")
    assert problems == [
        "deploy/dev.toml: application.VpcID: the template has no such parameter (is it VpcId?)",
        "deploy/dev.toml: application.Frobnicate: the template has no such parameter",
    ]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("MaxConnections", "20", "20 is below 64"),
        ("MaxConnections", "9000", "9000 is above 5000"),
        ("MaxConnections", "many", "'many' is no number"),
        ("SslMode", "off", "'off' is none of an empty text, disable"),
        ("Secret", "app", "'app' is not of the form arn:.+"),
    ],
)
def test_what_cloudformation_would_refuse_is_refused_before_the_build(name: str, value: str, why: str) -> None:
    """In words that name the value."""
    assert parameters.refused(DECLARED, {name: value}) == {name: why}


def test_every_default_of_both_templates_would_be_taken() -> None:
    """So the patterns are ones that Python reads as CloudFormation does."""
    for name in ("template.yaml", "database.yaml"):
        declared = Template(ROOT / name).parameters
        assert parameters.refused(declared, parameters.settled(declared)) == {}


@pytest.mark.parametrize("value", ["", "a b", 'say "hi"', "a,b", "https://x/y=z", "null"])
def test_sam_reads_a_value_as_it_was_meant(value: str) -> None:
    """Its own parser takes what is handed to it apart again."""
    from samcli.cli.types import CfnParameterOverridesType

    _, *words = commands.overrides({"First": value, "Second": "2"})
    assert CfnParameterOverridesType().convert(tuple(words), None, None) == {"First": value, "Second": "2"}


def test_what_runs_is_shown_as_it_would_be_typed() -> None:
    """From the project's folder, with the quotes that a shell needs."""
    command = ["/a/.venv/bin/sam", "deploy", 'A="b c"']
    assert commands.shown(command, Path("/a")) == """.venv/bin/sam deploy 'A="b c"'"""


@pytest.mark.parametrize(
    ("limit", "unreserved", "takes"),
    [(1000, 1000, True), (129, 129, True), (128, 128, False), (10, 10, False), (1000, 120, False)],
)
def test_lambda_keeps_a_hundred_unreserved(limit: int, unreserved: int, takes: bool) -> None:
    """A new account has ten or fifty in all."""
    assert Room(limit, unreserved).takes(29) is takes


def test_a_template_that_reserves_nothing_fits_everywhere() -> None:
    """Nothing is asked of the account."""
    assert Room(10, 10).takes(concurrency.reserved({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}))


def test_what_a_template_reserves_is_summed_up_through_its_conditions() -> None:
    """With the larger branch: what it would be without ReserveConcurrency=no."""
    chosen = {"Fn::If": ["Reserves", 20, {"Ref": "AWS::NoValue"}]}
    resources = {
        name: {"Properties": {"ReservedConcurrentExecutions": value}} for name, value in {"A": 5, "B": chosen}.items()
    }
    assert concurrency.reserved({"Resources": {**resources, "Queue": {"Type": "AWS::SQS::Queue"}}}) == 25
    assert concurrency.reserved(Template(ROOT / "template.yaml").content) > 0


def test_a_person_who_interrupts_sam_is_told_who_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence: CloudFormation knows nothing of a keyboard here."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    with pytest.raises(ProjectError, match="interrupted: what CloudFormation has begun of `sam deploy`"):
        commands.sam(tmp_path, "deploy")


def test_a_value_that_yaml_takes_for_truth_is_cloudformation_s_text() -> None:
    """Python would say True, which no template allows."""
    declared = {"On": {"Type": "String", "Default": True, "AllowedValues": [True, False]}}
    assert parameters.settled(declared) == {"On": "true"}
    assert parameters.refused(declared, {"On": "true"}) == {}


def test_a_pattern_that_only_java_knows_is_left_to_cloudformation() -> None:
    """It is not wrong for that."""
    assert parameters.refused({"A": {"AllowedPattern": r"\p{Alnum}+"}}, {"A": "a"}) == {}


@pytest.mark.parametrize("one", [{"Properties": None}, {"Properties": {"ReservedConcurrentExecutions": "7"}}])
def test_a_reservation_is_read_as_it_is_written(one: dict[str, dict[str, str] | None]) -> None:
    """Also as a text, and where a resource says nothing."""
    assert concurrency.reserved({"Resources": {"F": one}}) == (7 if one["Properties"] else 0)


@pytest.mark.parametrize(
    "text", ["Resources: {A: }", "Resources: {'Fn::ForEach::A': []}", "Resources: {}\nParameters: {A: }"]
)
def test_a_template_that_cannot_be_read_here_is_a_sentence(tmp_path: Path, text: str) -> None:
    """With the name of what is wrong."""
    (tmp_path / "template.yaml").write_text(text)
    with pytest.raises(ProjectError, match=r"(Fn::ForEach::)?A cannot be read here"):
        assert Template(tmp_path / "template.yaml").resources


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("MinCapacity = 3", "MinCapacity=3 is above MaxCapacity=2"),
        ("MinCapacity = 0.3", "MinCapacity=0.3: capacity is counted in halves"),
    ],
)
def test_a_capacity_that_rds_has_not_is_refused_before_the_network_is_made(
    project: Path, lines: str, said: str
) -> None:
    """RDS would say so minutes later, and the roll-back would take more of them."""
    (project / "deploy/dev.toml").write_text(f"[database]\n{lines}\n")
    with pytest.raises(ProjectError, match=f"^{said}$"):
        database.checked(Template(project / "database.yaml"), Target.read(project))
