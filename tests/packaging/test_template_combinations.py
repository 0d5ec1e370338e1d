"""template.yaml by each choice that its parameters offer: nothing dangles, and the linter finds nothing."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from devkit.app.project import Project
from devkit.app.runtime import on
from devkit.app.template import Template
from devkit.deploys import versions
from devkit.rehearsal.failure import Refused
from devkit.rehearsal.parameters import checked, obeyed

from .combinations import Choice, choices, dangling, decided, deciding, given, pairs

PROJECT = Project.find(Path(__file__))
# What lets functions enter the database in each of the two ways; by default it is a secret.
SECRETS = {
    f"{role}SecretId": "arn:aws:secretsmanager:us-east-1:123456789012:secret:x" for role in ("App", "Owner", "Report")
}
TOKENS = {
    "DatabaseAuth": "iam",
    "DatabaseHost": "db.example.com",
    "DatabaseName": "orders",
    "DatabaseResourceId": "cluster-ABC",
}
WITHOUT_SECRETS = PROJECT.template.content
TEMPLATE = given(WITHOUT_SECRETS, SECRETS)
EVERY_CHOICE = list(choices(TEMPLATE, deciding(TEMPLATE)))
FUNCTIONS = list(PROJECT.functions())
(MIGRATE,) = PROJECT.template.called_at_deploy()
RUNTIMES = ("python3.13", "python3.14")
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
    """Each action that the policies of a function allow, with the parameter or the text that names what on."""
    return {
        (statement["Action"], target.get("Ref") or target["Fn::Sub"])
        for policy in resources[function]["Properties"]["Policies"]
        for statement in resources[policy["Ref"]]["Properties"]["PolicyDocument"]["Statement"]
        for target in (statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]])
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_read_the_secret_that_it_is_told_of_and_no_other(function: str) -> None:
    """With the key that it is under, where that is the account's; the migration also those of roles that it makes."""
    for choice in EVERY_CHOICE:
        if choice["DatabaseAuth"] == "iam":
            continue
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


@pytest.mark.parametrize("function", FUNCTIONS)
def test_with_tokens_a_function_enters_as_its_own_role_and_reads_no_secret(function: str) -> None:
    """In the one database; the migration reads the master's. With a secret, it says who the function is."""
    for choice in EVERY_CHOICE:
        template = decided(TEMPLATE, choice)
        own = template["Resources"][function]["Properties"]["Environment"]["Variables"]
        told = template["Globals"]["Function"]["Environment"]["Variables"] | own
        if choice["DatabaseAuth"] == "secret":
            assert (told["DB_AUTH"], told["DB_USER"]) == ({"Ref": "DatabaseAuth"}, "")
        else:
            users = "arn:${AWS::Partition}:rds-db:${AWS::Region}:${AWS::AccountId}:dbuser:${DatabaseResourceId}"
            role = told["DB_USER"]["Ref"]
            assert told["DB_AUTH"] == {"Ref": "DatabaseAuth"}
            assert told["DB_SECRET_ID"] == {"Ref": role.replace("Role", "SecretId")}
            expected = {("rds-db:connect", f"{users}/${{{role}}}")}
            if function == MIGRATE and choice["MasterSecretId"]:
                expected.add(("secretsmanager:GetSecretValue", "MasterSecretId"))
                expected |= {("kms:Decrypt", "SecretsKeyArn")} if choice["SecretsKeyArn"] else set()
            assert allowed(template["Resources"], function) == expected


@pytest.mark.parametrize(
    ("values", "name", "wrong"),
    [
        *((SECRETS, name, "") for name in SECRETS),
        *((TOKENS, name, "") for name in TOKENS if name != "DatabaseAuth"),
        (TOKENS | {"WriterHost": "db.example.com"}, "Proxy", "rds-proxy"),
        (TOKENS, "SslMode", "disable"),
    ],
)
def test_what_an_entry_needs_and_cannot_have_is_refused_by_name(values: Choice, name: str, wrong: str) -> None:
    """Before anything is made, and not by the first function that enters."""
    obeyed(WITHOUT_SECRETS, values)
    with pytest.raises(Refused, match=rf"violated: (With DatabaseAuth=iam, )?{name} (has to|must)"):
        obeyed(WITHOUT_SECRETS, values | {name: wrong})


def test_a_permission_to_enter_names_one_database() -> None:
    """A star would let the role in at every database of the account."""
    declared = {"DatabaseResourceId": TEMPLATE["Parameters"]["DatabaseResourceId"]}
    for value in ("*", "cluster-*", "arn:aws:rds:us-east-1:123456789012:cluster:orders", "prx-0123"):
        with pytest.raises(Refused, match="'DatabaseResourceId' must match pattern"):
            checked(declared, {"DatabaseResourceId": value})
    for value in ("", "cluster-ABCDEFGHIJKL01234", "db-ABCDEFGHIJKL01234"):
        assert checked(declared, {"DatabaseResourceId": value}) == {"DatabaseResourceId": value}


@pytest.mark.slow  # 15 s of CPU
def test_the_linter_finds_nothing(tmp_path: Path) -> None:
    """`sam validate --lint` looks at all choices at once, and so misses what each of them makes of a value.

    Among them what `make deploy` adds for SnapStart and gradual deploys. In one test, for what costs most is to load
    the linter: here, and not in each worker that collects tests.
    """
    from cfnlint.api import lint
    from cfnlint.core import get_rules

    # A parameter that only a resource of another choice takes.
    rules = get_rules([], [UNUSED_PARAMETER], [])
    found = {}
    for choice in pairs(
        TEMPLATE, runtime=RUNTIMES, SnapStart=versions.SNAPSTART, GradualDeploy=("", versions.GRADUAL[0])
    ):
        path = tmp_path / "template.yaml"
        path.write_text(json.dumps(on(decided(TEMPLATE, choice), choice["runtime"])))
        asked = versions.Versions.of({**choice, "Alarms": "ErrorsAlarm,NearTimeoutAlarm"})
        text = json.dumps(versions.behind_an_alias(Template(path), asked, choice)) if asked else path.read_text()
        said = [f"{match.rule.id} {match.message}" for match in lint(text, rules, ["us-east-1"])]
        if said := [line for line in said if not line.startswith(UNUSED_PARAMETER)]:
            found[json.dumps(choice)] = said
    assert found == {}


def test_a_few_choices_have_every_two_values_together() -> None:
    """Whatever the number of parameters, and of the values that one of them has."""
    values = {**dict.fromkeys("abcdefghijklmn", ("0", "1")), "three": ("0", "1", "2"), "one": ("0",)}
    found = pairs({"Parameters": {}, "Conditions": {}}, **values)
    for (one, ones), (other, others) in itertools.combinations(values.items(), 2):
        assert {(choice[one], choice[other]) for choice in found} == set(itertools.product(ones, others))
    assert len(pairs({"Parameters": {}, "Conditions": {}}, **dict.fromkeys("abcdefghijklmno", ("0", "1")))) == 7
