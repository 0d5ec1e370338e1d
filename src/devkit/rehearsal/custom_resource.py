"""Custom resources: a function is told to create, update or delete, and CloudFormation does as it answers.

moto's knows only the creation, goes on while the function still runs, and takes FAILED for a success. Here the answer
is waited for, its form is checked as CloudFormation checks it, and its Data can be referred to.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-responses.html
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from .failure import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from devkit.app.cloudformation import Callbacks
    from devkit.lambda_runtime.environment import Invocation

    from .resources import Definition

KINDS = ("Custom::", "AWS::CloudFormation::CustomResource")
DEFAULT_SERVICE_TIMEOUT_S = 3600
MOST_BYTES = 4096
REQUIRED = ("Status", "PhysicalResourceId", "StackId", "RequestId", "LogicalResourceId")


class CustomResource:
    """One of them. ``data`` is what Fn::GetAtt finds."""

    def __init__(self) -> None:
        self.physical_resource_id = ""
        self.data: dict[str, Any] = {}

    def get_cfn_attribute(self, name: str) -> Any:
        """From the last answer. Raises Failed where that has no such attribute."""
        if name not in self.data:
            raise Failed(f"Vendor response doesn't contain {name} attribute in object")
        return self.data[name]


class CreationFailed(Failed):
    """It was asked for and may have left something: the roll-back has to delete it."""

    def __init__(self, reason: str, made: CustomResource) -> None:
        super().__init__(reason)
        self.made = made


class CustomResourceMaker:
    """``invoke`` calls the function of an ARN; ``callbacks`` is where its answers arrive."""

    def __init__(self, invoke: Callable[[str, Any], Invocation], callbacks: Callbacks) -> None:
        self._invoke = invoke
        self._callbacks = callbacks
        self.requests: list[str] = []

    def create(self, definition: Definition) -> CustomResource:
        """Ask for its creation."""
        made = CustomResource()
        try:
            self._ask("Create", made, definition)
        except Failed as error:
            raise CreationFailed(str(error), made) from error
        return made

    def update(self, made: CustomResource, definition: Definition, before: Definition) -> CustomResource:
        """Ask for an update. An answer with another physical id means a replacement, and the old one is deleted."""
        old_id = made.physical_resource_id
        self._ask("Update", made, definition, OldResourceProperties=_as_text(before.properties))
        if made.physical_resource_id != old_id:
            replaced = CustomResource()
            replaced.physical_resource_id = old_id
            self._ask("Delete", replaced, before)
        return made

    def delete(self, made: CustomResource, definition: Definition) -> None:
        """Ask for its end."""
        self._ask("Delete", made, definition)

    def _ask(self, request: str, made: CustomResource, definition: Definition, **more: Any) -> None:
        token = definition.properties["ServiceToken"]
        event = {
            "RequestType": request,
            "ServiceToken": token,
            "ResponseURL": self._callbacks.url,
            "StackId": definition.stack_id,
            "RequestId": str(uuid.uuid4()),
            "LogicalResourceId": definition.logical_id,
            "ResourceType": definition.kind,
            "ResourceProperties": _as_text(definition.properties),
            **({"PhysicalResourceId": made.physical_resource_id} if made.physical_resource_id else {}),
            **more,
        }
        self._callbacks.take()
        self.requests.append(request)
        done = self._invoke(token, event)
        answers = [answer for answer in self._callbacks.take() if answer.get("RequestId") == event["RequestId"]]
        if not answers:
            waits_s = definition.properties.get("ServiceTimeout", DEFAULT_SERVICE_TIMEOUT_S)
            made.physical_resource_id = made.physical_resource_id or f"{definition.logical_id}-without-an-answer"
            raise Failed(
                "CloudFormation did not receive a response from your Custom Resource"
                f" (for which it would have waited {waits_s} s). It answered {done.error or ''} {done.payload}"
            )
        self._obey(answers[-1], made)

    def _obey(self, answer: dict[str, Any], made: CustomResource) -> None:
        if missing := [key for key in REQUIRED if not answer.get(key)]:
            raise Failed(f"Invalid response from your Custom Resource: it has no {', '.join(missing)}")
        if (size := len(json.dumps(answer, ensure_ascii=False).encode())) > MOST_BYTES:
            raise Failed(f"Response object is too long: {size} bytes of at most {MOST_BYTES}")
        made.physical_resource_id = answer["PhysicalResourceId"]
        if answer["Status"] != "SUCCESS":
            raise Failed(
                f"Received response status [{answer['Status']}] from custom resource."
                f" Message returned: {answer.get('Reason')}"
            )
        made.data = answer.get("Data") or {}


def _as_text(value: Any) -> Any:
    """CloudFormation hands a function every number and boolean as text."""
    if isinstance(value, dict):
        return {key: _as_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_text(inner) for inner in value]
    return str(value).lower() if isinstance(value, bool) else str(value)
