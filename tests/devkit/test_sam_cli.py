"""What `sam local invoke` is given, and what is read from what it prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from devkit.app.sam_cli import parsed, processor, with_variables
from devkit.app.template import Template
from devkit.lambda_runtime.image import ARCHITECTURE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("printed", "answer"),
    [
        ('{"statusCode": 201}\n', {"statusCode": 201}),
        ('a log line\n{"errorType": "KeyError"}', {"errorType": "KeyError"}),
        ("null", None),
        ("an error of its own", "an error of its own"),
    ],
)
def test_the_answer_is_the_last_line(printed: str, answer: Any) -> None:
    """SAM prints it after whatever else it had to say."""
    assert parsed(printed) == answer


def test_variables_are_added_to_a_copy_of_the_template() -> None:
    """SAM itself overrides only those that a template declares."""
    template = {"Resources": {"F": {"Properties": {"Handler": "a.b"}}, "G": {"Properties": {}}}}
    changed = with_variables(template, {"F": {"DB_SSLMODE": "disable"}, "G": {}})
    assert changed["Resources"]["F"]["Properties"] == {
        "Handler": "a.b",
        "Environment": {"Variables": {"DB_SSLMODE": "disable"}},
    }
    assert template["Resources"]["F"] == {"Properties": {"Handler": "a.b"}}


def test_the_processor_is_this_machine_s_where_a_parameter_chooses(tmp_path: Path) -> None:
    """Of all functions or of one; a processor that is written out stays what it is."""
    resources = {
        "F": {"Type": "AWS::Serverless::Function", "Properties": {"Architectures": [{"Ref": "Mine"}]}},
        "G": {"Type": "AWS::Serverless::Function", "Properties": {"Architectures": ["arm64"]}},
        "Queue": {"Type": "AWS::SQS::Queue"},
    }
    shared = {"Function": {"Architectures": [{"Ref": "Everyones"}]}}
    path = tmp_path / "template.json"
    path.write_text(json.dumps({"Resources": resources, "Globals": shared}))
    assert processor(Template(path)) == {"Everyones": ARCHITECTURE, "Mine": ARCHITECTURE}
    path.write_text(json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}))
    assert processor(Template(path)) == {}
