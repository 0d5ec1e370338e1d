"""CloudFormation's stacks and change sets, in the place of moto's.

moto's carries a change set out while the caller waits for the answer to its request, which AWS's programs send again
after a minute; it updates a stack whatever its state; and it forgets the template that was uploaded for what became of
it.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from samcli.yamlhelper import yaml_parse

from devkit.app.errors import ProjectError
from devkit.app.transform import transformed

from .execution import Execution
from .failure import Refused
from .parameters import checked, obeyed

if TYPE_CHECKING:
    from moto.cloudformation.models import Stack

    from .resources import Makers

# A caller that gets its answer after the work is spared a poll; botocore would give up after 60.
ANSWER_S = 30.0
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
NOT_UPDATABLE = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED", "DELETE_FAILED", "CREATE_FAILED")


class Backend(CloudFormationBackend):
    """The stacks of one region. ``makers`` are set before the first change set is made."""

    __module__ = CloudFormationBackend.__module__  # beside it, moto looks for the URLs that lead here
    makers: Makers

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.executions: dict[str, Execution] = {}
        self._uploaded: dict[str, str] = {}
        self._working: list[threading.Thread] = []

    def create_change_set(  # noqa: PLR0917 - moto's signature
        self,
        stack_name: str,
        change_set_name: str,
        template: str,
        parameters: dict[str, str],
        description: str,
        change_set_type: str,
        notification_arns: list[str] | None = None,
        tags: dict[str, str] | None = None,
        role_arn: str | None = None,
    ) -> tuple[str, str]:
        """What is to be done. Raises ValidationError where CloudFormation would not do it."""
        for stack in self.stacks.values():
            if stack.name == stack_name and stack.status in NOT_UPDATABLE:
                message = f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated."
                raise ValidationError(message=message)
        try:
            content = yaml_parse(template)
            values = checked(content.get("Parameters", {}), parameters)
            obeyed(content, values)
            done = transformed(content, values, self.region_name)
        except (Refused, ProjectError) as error:
            raise ValidationError(message=str(error)) from error
        change_set_id, stack_id = super().create_change_set(
            stack_name,
            change_set_name,
            json.dumps(done, default=str),
            values,
            description,
            change_set_type,
            notification_arns,
            tags,
            role_arn,
        )
        if stack_id not in self.executions:
            self.executions[stack_id] = Execution(self.stacks[stack_id], self.makers)
        self._uploaded[change_set_id] = template
        return change_set_id, stack_id

    def execute_change_set(self, change_set_name: str, stack_name: str | None = None) -> None:
        """Begin to carry it out."""
        change_set = self.describe_change_set(change_set_name)
        if change_set is None:
            raise ValidationError(stack_name)
        execution = self.executions[change_set.stack_id]

        def work() -> None:
            execution.execute(change_set)
            if change_set.execution_status == "EXECUTE_COMPLETE":
                self._uploaded[change_set.stack_id] = self._uploaded[change_set.change_set_id]

        self._work(work)

    def delete_stack(self, name_or_stack_id: str) -> None:
        """Begin to delete it. One that is not there is deleted, as far as CloudFormation is concerned."""
        for stack in [one for one in self.stacks.values() if name_or_stack_id in (one.name, one.stack_id)]:
            self._work(lambda stack=stack: self._delete(stack))

    def get_template(self, name_or_stack_id: str) -> str | dict[str, Any]:
        """As it was uploaded: `sam delete` finds in it what it may remove from the bucket."""
        stack = self.get_stack(name_or_stack_id)
        return self._uploaded.get(stack.stack_id) or stack.template

    def execution(self, stack_name: str) -> Execution:
        """That of the stack with this name. Raises ValidationError where there is none."""
        return self.executions[self.get_stack(stack_name).stack_id]

    def wait(self) -> None:
        """Returns when nothing is being carried out."""
        while self._working:
            self._working.pop().join()

    def _delete(self, stack: Stack) -> None:
        if self.executions[stack.stack_id].delete():
            self.deleted_stacks[stack.stack_id] = self.stacks.pop(stack.stack_id)

    def _work(self, work: Any) -> None:
        thread = threading.Thread(target=work, name="devkit-cloudformation", daemon=True)
        self._working.append(thread)
        thread.start()
        thread.join(ANSWER_S)
