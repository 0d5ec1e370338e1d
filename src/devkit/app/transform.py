"""SAM's resources turned into CloudFormation's.

What does it is samtranslator, the program behind CloudFormation's ``AWS::Serverless-2016-10-31`` and
``sam validate``.
"""

from __future__ import annotations

import copy
import json
import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from .errors import ProjectError
from .intrinsics import section

if TYPE_CHECKING:
    from collections.abc import Mapping

SAM = "AWS::Serverless-2016-10-31"
# What a resource of SAM's names code or a document by, and the transform takes as an address in S3 alone.
LOCAL = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::Api": "DefinitionUri",
    "AWS::Serverless::HttpApi": "DefinitionUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}
ELSEWHERE = "s3://bucket/key"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/image"


def transformed(template: dict[str, Any], parameters: Mapping[str, str], region: str) -> dict[str, Any]:
    """The template as CloudFormation carries it out; without SAM's transform, as it is. Raises ProjectError.

    ``template`` is consumed.
    """
    named = template.get("Transform", [])
    if SAM not in (named if isinstance(named, list) else [named]):
        return template
    logging.getLogger("samtranslator").setLevel(logging.ERROR)  # it tells of each plugin that it registers
    translator = Translator(
        managed_policy_map=None,
        sam_parser=Parser(),
        boto_session=boto3.Session(region_name=region),
    )
    try:
        done: dict[str, Any] = translator.translate(
            sam_template=template, parameter_values=dict(parameters), get_managed_policy_map=_managed_policies
        )
    except InvalidDocumentException as error:
        reasons = "; ".join(cause.message for cause in error.causes)
        raise ProjectError(f"Transform {SAM} failed with: {error.message} {reasons}") from error
    done.pop("Transform", None)
    return done


def as_if_packaged(template: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose code is uploaded already, as far as its addresses say, for whoever asks about all but the code."""
    content: dict[str, Any] = copy.deepcopy(dict(template))
    shared = section(section(content, "Globals"), "Function")
    shared.pop("CodeUri", None)
    for resource in section(content, "Resources").values():
        key = LOCAL.get(resource.get("Type", ""))
        properties = resource.setdefault("Properties", {}) if key else {}
        image = "Image" in (properties.get("PackageType"), shared.get("PackageType"))
        if key == "CodeUri" and image:
            properties.setdefault("ImageUri", IMAGE)
        elif (key == "CodeUri" and "InlineCode" not in properties) or (key and isinstance(properties.get(key), str)):
            properties[key] = ELSEWHERE
    return content


@cache
def _managed_policies() -> dict[str, str]:
    """The ARN of each policy that AWS manages, by its name; few templates name one that needs to be looked up."""
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    policies = json.loads(aws_managed_policies_data)
    return {name: f"arn:aws:iam::aws:policy{policy.get('Path', '/')}{name}" for name, policy in policies.items()}
