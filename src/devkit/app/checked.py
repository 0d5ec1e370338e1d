"""``make check`` of an application itself: its migrations, audited, then ``python -m db check`` as each function.

The functions that CloudFormation calls at a deploy run first, as that calls them, with an audit that refuses. Each
other one that enters the database is checked by the command itself, in a process with the function's variables.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from devkit.lambda_runtime.environment import LambdaEnvironment

from .errors import ProjectError
from .expectations import failure
from .stack import Stack

if TYPE_CHECKING:
    from .project import Project
    from .template import Function

# Of the function that migrates: what leaves tenants open to one another is not kept, and the deploy fails.
_REFUSING = {"DB_TENANT_AUDIT": "refuse"}
_CHECK_TIMEOUT_S = 60
_UNSAID = {"ok", "not applicable"}


def run(project: Project, *, allowed: str | None = None) -> int:
    """Check all of it on an embedded server; 0 where nothing was found, 1 for whatever is to be done.

    ``allowed`` names the mapping of exceptions, as ``python -m db check`` takes it. Raises ProjectError where no
    function enters a database.
    """
    with Stack(project) as stack:
        functions = stack.functions()
        at_deploy = project.template.called_at_deploy() & functions.keys()
        if not any(project.role(function) for function in functions.values()):
            raise ProjectError(f"{project.root}: no function of the template enters a database")
        for name in sorted(at_deploy):
            if problem := _deployed(stack, functions[name]):
                print(f"{name}: {problem}", file=sys.stderr)
                return 1
            print(f"{name}: done, and its migrations keep tenants apart")
        found = 0
        for name in sorted(functions.keys() - at_deploy):
            if role := project.role(functions[name]):
                found += _checked(stack, functions[name], role, allowed)
    return 1 if found else 0


def _deployed(stack: Stack, function: Function) -> str | None:
    """Call it as CloudFormation does for each custom resource behind it. What went wrong, or None."""
    with LambdaEnvironment(
        handler=function.handler,
        code=[function.code, *function.layers],
        environment={**stack.variables(function), **_REFUSING},
        timeout_s=function.timeout_s,
        memory_mb=function.memory_mb,
        name=function.name,
        runtime=function.runtime,
    ) as environment:
        for event in stack.create_events(function.name):
            failed = failure(environment.invoke(event).payload)
            if problem := failed or stack.refusal():
                return problem
    return None


def _checked(stack: Stack, function: Function, role: str, allowed: str | None) -> int:
    """How much there is to do about it, which is printed."""
    path = os.pathsep.join(map(str, (function.code, *function.layers, *filter(None, [os.environ.get("PYTHONPATH")]))))
    done = subprocess.run(
        [sys.executable, "-m", "db", "check", "--json", *(["--allowed", allowed] if allowed else [])],
        env={**os.environ, **stack.variables(function), "AWS_LAMBDA_FUNCTION_NAME": function.name, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=_CHECK_TIMEOUT_S,
        check=False,
    )
    try:
        findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    except ValueError:
        raise ProjectError(f"python -m db check for {function.name}: {done.stderr.strip()}") from None
    faults = [one for one in findings if one["level"] not in _UNSAID]
    print(f"{function.name} as {role}: {len(findings)} findings, {len(faults)} to do something about")
    for one in faults:
        print(f"  {one['level']}, {one['subject']}: {one['seen']}\n    {one['remedy']}\n    {one['page']}")
    return len(faults)
