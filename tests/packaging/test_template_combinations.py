"""template.yaml by each choice that its parameters offer: nothing dangles, and the linter finds nothing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import lint
from cfnlint.core import get_rules

from devkit.app.project import Project
from devkit.rehearsal.failure import Refused
from devkit.rehearsal.parameters import obeyed

from .combinations import Choice, choices, dangling, decided, pairs

PROJECT = Project.find(Path(__file__))
TEMPLATE = PROJECT.template.content
EVERY_CHOICE = list(choices(TEMPLATE))
FUNCTIONS = list(PROJECT.functions())
(MIGRATE,) = PROJECT.template.called_at_deploy()
RUNTIMES = ("python3.13", "python3.14")
# A parameter that only a resource of another choice takes.
UNUSED_PARAMETER = "W2001"


def test_no_choice_refers_to_what_it_does_not_make() -> None:
    """CloudFormation would refuse the template, and only for whoever chooses so."""
    broken = {
        json.dumps(choice): missing
        for choice in EVERY_CHOICE
        if (missing := dangling(TEMPLATE, decided(TEMPLATE, choice)))
    }
    assert broken == {}


def test_lambda_drops_no_line_of_a_function() -> None:
    """It takes a line without a level, as metrics are, for INFO: a level above that would drop them, and errors too."""
    levels = {
        level: decided(TEMPLATE, {"LogLevel": level})["Globals"]["Function"]["LoggingConfig"]["ApplicationLogLevel"]
        for level in TEMPLATE["Parameters"]["LogLevel"]["AllowedValues"]
    }
    assert levels == {"DEBUG": "DEBUG", "INFO": "INFO", "WARN": "INFO", "ERROR": "INFO"}


def test_the_migration_waits_for_each_rule_that_lets_it_in() -> None:
    """The group is made by this stack, so nothing else can have let it in before the first deploy."""
    for choice in EVERY_CHOICE:
        resources = decided(TEMPLATE, choice)["Resources"]
        rules = {name for name, one in resources.items() if one["Type"] == "AWS::EC2::SecurityGroupIngress"}
        chosen = [name for name, value in choice.items() if name.endswith("SecurityGroupId") and value]
        (migration,) = (one for one in resources.values() if one["Type"].startswith("Custom::"))
        assert {one["Ref"] for one in migration["Properties"]["After"]} == rules
        assert len(rules) == len(chosen)


@pytest.mark.parametrize("proxy", TEMPLATE["Parameters"]["Proxy"]["AllowedValues"])
def test_the_migration_goes_to_the_server_whatever_stands_before_it(proxy: str) -> None:
    """A lock of the session guards it. Where nothing says where the server is, the deploy is refused at once."""
    values = {"Proxy": proxy, "DatabaseHost": "before.example.com", "WriterHost": "server.example.com"}
    template = decided(TEMPLATE, values)
    everyones = template["Globals"]["Function"]["Environment"]["Variables"]
    its = everyones | template["Resources"][MIGRATE]["Properties"]["Environment"]["Variables"]
    assert (its["DB_PROXY"], its["DB_HOST"]) == ("none", {"Ref": "WriterHost"})
    assert (everyones["DB_PROXY"], everyones["DB_HOST"]) == ({"Ref": "Proxy"}, {"Ref": "DatabaseHost"})
    obeyed(TEMPLATE, values)
    refusal = contextlib.nullcontext() if proxy == "none" else pytest.raises(Refused, match="WriterHost has to be")
    with refusal:
        obeyed(TEMPLATE, values | {"WriterHost": ""})


def test_the_port_is_one_in_the_rules_and_for_the_functions() -> None:
    """Where the template names the host; a secret that holds the host holds its port as well."""
    for host, port in (("", ""), ("db.example.com", {"Ref": "DatabasePort"})):
        template = decided(TEMPLATE, {"DatabaseHost": host, "DatabaseSecurityGroupId": "sg-0"})
        assert template["Globals"]["Function"]["Environment"]["Variables"]["DB_PORT"] == port
        rule = template["Resources"]["DatabaseIngress"]["Properties"]
        leaves, _ = template["Resources"]["FunctionsSecurityGroup"]["Properties"]["SecurityGroupEgress"]
        ports = [said[end] for said in (rule, leaves) for end in ("FromPort", "ToPort")]
        assert ports == [{"Ref": "DatabasePort"}] * 4


def allowed(resources: dict[str, Any], function: str) -> set[tuple[str, str]]:
    """Each action that the policies of a function allow, with the parameter that names what on."""
    return {
        (statement["Action"], target["Ref"])
        for policy in resources[function]["Properties"]["Policies"]
        for statement in resources[policy["Ref"]]["Properties"]["PolicyDocument"]["Statement"]
        for target in (statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]])
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_read_the_secret_that_it_is_told_of_and_no_other(function: str) -> None:
    """With the key that it is under, where that is the account's; the migration also those of roles that it makes."""
    for choice in EVERY_CHOICE:
        resources = decided(TEMPLATE, choice)["Resources"]
        told = resources[function]["Properties"]["Environment"]["Variables"]
        secrets = {
            name
            for name in told
            if name == "DB_SECRET_ID" or (choice["MasterSecretId"] and name.endswith("_SECRET_ID"))
        }
        expected = {("secretsmanager:GetSecretValue", told[name]["Ref"]) for name in secrets}
        expected |= {("kms:Decrypt", "SecretsKeyArn")} if choice["SecretsKeyArn"] else set()
        assert allowed(resources, function) == expected


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("choice", pairs(EVERY_CHOICE), ids=lambda choice: "-".join(choice.values())[:60])
def test_the_linter_finds_nothing(choice: Choice, runtime: str) -> None:
    """`sam validate --lint` looks at all choices at once, and so misses what each of them makes of a value."""
    text = json.dumps(decided(TEMPLATE, choice)).replace("python3.13", runtime)
    found = lint(text, get_rules([], [UNUSED_PARAMETER], []), ["us-east-1"])
    assert [f"{match.rule.id} {match.message}" for match in found if match.rule.id != UNUSED_PARAMETER] == []
