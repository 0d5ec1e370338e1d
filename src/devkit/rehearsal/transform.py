"""SAM's resources turned into CloudFormation's.

moto has no transforms: it would take ``AWS::Serverless::Function`` for a resource that it does not know. What runs here
is samtranslator, the program behind CloudFormation's ``AWS::Serverless-2016-10-31`` and ``sam validate``.
"""

from __future__ import annotations

import json
import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from moto.iam.aws_managed_policies import aws_managed_policies_data
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from .failure import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

SAM = "AWS::Serverless-2016-10-31"


def transformed(template: dict[str, Any], parameters: Mapping[str, str], region: str) -> dict[str, Any]:
    """The template as CloudFormation carries it out; without SAM's transform, as it is. Raises Refused.

    ``template`` is consumed.
    """
    named = template.get("Transform", [])
    if SAM not in (named if isinstance(named, list) else [named]):
        return template
    logging.getLogger("samtranslator").setLevel(logging.ERROR)  # it tells of each plugin that it registers
    translator = Translator(
        managed_policy_map=_managed_policies(),
        sam_parser=Parser(),
        boto_session=boto3.Session(region_name=region),
    )
    try:
        done: dict[str, Any] = translator.translate(sam_template=template, parameter_values=dict(parameters))
    except InvalidDocumentException as error:
        reasons = "; ".join(cause.message for cause in error.causes)
        raise Refused(f"Transform {SAM} failed with: {error.message} {reasons}") from error
    done.pop("Transform", None)
    return done


@cache
def _managed_policies() -> dict[str, str]:
    """The ARN of each policy that AWS manages, by its name."""
    policies = json.loads(aws_managed_policies_data)
    return {name: f"arn:aws:iam::aws:policy{policy.get('Path', '/')}{name}" for name, policy in policies.items()}
