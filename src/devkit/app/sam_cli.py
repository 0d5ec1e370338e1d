"""The SAM CLI as a program: ``sam build``, and ``sam local invoke`` of what was built, against one stack."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devkit.lambda_runtime import image
from devkit.lambda_runtime.docker_bridge import HOST

from . import artifacts
from .errors import ProjectError
from .template import Template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devkit.lambda_runtime import docker
    from devkit.lambda_runtime.docker_bridge import Doors
    from devkit.network.wire import Counts

    from .catalogue import Case
    from .project import Project
    from .stack import Stack

BUILT = ".aws-sam/build"
# What the makefiles of a build look into: it need not be a template above their own folder.
TEMPLATE_VARIABLE = "SAM_TEMPLATE"
# Beside the built template, so that the folders in it mean the same.
LED_HERE = "template-for-sam-local.json"

# What SAM takes to start and to end a container, twice over: beyond it and the function's timeout, it hangs.
SAM_S = 60.0
BUILD_S = 300.0

REPORT = re.compile(r"^REPORT .*?\tDuration: ([\d.]+) ms", re.MULTILINE)

# What `sam` may see of this shell and of the stack. Where the template names a variable
# too, the shell's value would win.
PASSED_ON = (
    *("PATH", "HOME", "LANG", "XDG_CACHE_HOME", "DOCKER_HOST", "DOCKER_CONFIG"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"),
)


@dataclass(frozen=True)
class Outcome:
    """What came of one case."""

    case: Case
    answer: Any
    ms: float
    counts: Counts
    problem: str | None
    log: str


def run(project: Project) -> int:
    """`make build`: an exit status."""
    build(project)
    return 0


def build(project: Project) -> None:
    """`sam build`, quiet unless it fails, with the sizes that its makefiles print. Raises ProjectError."""
    started = time.monotonic()
    with as_a_file(project.template) as (template, environment):
        done = subprocess.run(
            [program("sam"), "build", "--template", str(template), "--build-dir", str(project.root / BUILT)],
            check=False,
            cwd=project.root,
            env=quiet(os.environ | environment),
            text=True,
            capture_output=True,
            timeout=BUILD_S,
        )
    if done.returncode:
        raise ProjectError(f"sam build failed:\n{done.stderr}")
    artifacts.check(project.root / BUILT)
    print(f"sam build: {time.monotonic() - started:.0f} s", flush=True)
    for size in sorted(re.findall(r"^\w+: \d+ bytes unzipped", done.stderr, re.MULTILINE)):
        print(f"  {size}", flush=True)


@contextlib.contextmanager
def as_a_file(template: Template) -> Iterator[tuple[Path, dict[str, str]]]:
    """Where `sam build` reads the template, and what it needs in its environment so that the makefiles read the same.

    For a runtime that the template does not name that is a file beside it, for the length of the block: the folders in
    it, and samconfig.toml, are looked for from there.
    """
    if template.runtime is None:
        yield template.path, {TEMPLATE_VARIABLE: str(template.path.resolve())}
        return
    path = template.path.with_name(f".{template.path.stem}-{template.runtime}.json")
    path.write_text(json.dumps(template.content, indent=1, default=str))
    try:
        yield path, {TEMPLATE_VARIABLE: str(path)}
    finally:
        path.unlink()


def program(name: str) -> str:
    """A command of this environment, whether or not it is on the path."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}") or name


def quiet(environment: Mapping[str, str]) -> dict[str, str]:
    """Without SAM's usage reports, and with this environment's commands first, for the makefiles call uv."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return {**environment, "PATH": path, "SAM_CLI_TELEMETRY": "0"}


class SamLocal:
    """`sam local invoke` against one stack."""

    def __init__(self, stack: Stack, doors: Doors, engine: docker.Engine, folder: Path) -> None:
        self._stack = stack
        self._doors = doors
        self._payload = folder / "payload.json"
        self._functions = stack.functions()
        doors.open(stack.wire.port)
        self._parameters = {
            **{name: doors.reachable(value) for name, value in stack.parameters().items()},
            **processor(stack.project.template),
        }
        self._template = self._led_here(stack.project.root / BUILT)
        visible = {**engine.environment(), **stack.environment()}
        self._environment = quiet({name: visible[name] for name in PASSED_ON if name in visible})
        # SAM asks STS for the account; without an answer it waits ten seconds before it makes one up.
        self._environment["AWS_ENDPOINT_URL_STS"] = stack.aws.endpoint
        # Its lock files: one that outlives a killed run would hold the next one up.
        self._environment["TMPDIR"] = str(folder)

    def outcome(self, case: Case) -> Outcome:
        """Invoke the case's function with its payload and let the stack judge the answer."""
        self._payload.write_text(self._doors.reachable(json.dumps(self._stack.payload(case))))
        before, started = self._stack.wire.counts(), time.monotonic()
        done = subprocess.run(
            self.command(case),
            check=False,
            env=self._environment,
            text=True,
            capture_output=True,
            timeout=SAM_S + self._functions[case.function].timeout_s,
        )
        elapsed_ms = (time.monotonic() - started) * 1000
        reported = REPORT.search(done.stderr)
        answer = parsed(done.stdout)
        answered = done.returncode == 0 and bool(done.stdout.strip())
        return Outcome(
            case=case,
            answer=answer,
            ms=float(reported[1]) if reported else elapsed_ms,
            counts=self._stack.wire.counts() - before,
            problem=self._stack.problem(case, answer) if answered else f"sam ended with {done.returncode}, no answer",
            log=done.stderr,
        )

    def command(self, case: Case) -> list[str]:
        """What a developer would type."""
        overrides = [f"ParameterKey={name},ParameterValue={value}" for name, value in self._parameters.items() if value]
        return [
            *(program("sam"), "local", "invoke", case.function, "--template", str(self._template)),
            *("--event", str(self._payload), "--skip-pull-image"),
            *("--add-host", f"{HOST}:host-gateway", *(("--parameter-overrides", *overrides) if overrides else ())),
        ]

    def _led_here(self, built: Path) -> Path:
        """The built template; where its parameters do not lead the functions to the stack, a copy that does."""
        original = Template(built / "template.yaml")
        changes = {
            function.name: {
                name: self._doors.reachable(value)
                for name, value in self._stack.led_here(function).items()
                if function.environment.get(name, "") != value
            }
            for function in self._functions.values()
        }
        if not any(changes.values()):
            return original.path
        copied = built / LED_HERE
        copied.write_text(json.dumps(with_variables(original.content, changes)))
        return copied


def with_variables(template: Mapping[str, Any], changes: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The template with variables added to functions, or replaced."""
    changed = copy.deepcopy(dict(template))
    for name, variables in changes.items():
        properties = changed["Resources"][name]["Properties"]
        environment = properties["Environment"] = {**properties.get("Environment", {})}
        environment["Variables"] = {**environment.get("Variables", {}), **variables}
    return changed


def processor(template: Template) -> dict[str, str]:
    """The parameters that a function's Architectures refer to, for the processor of this machine."""
    shared = template.content.get("Globals", {}).get("Function", {})
    said = [shared, *(resource.get("Properties", {}) for resource in template.resources.values())]
    named = [one["Ref"] for properties in said for one in properties.get("Architectures", []) if isinstance(one, dict)]
    return dict.fromkeys(named, image.ARCHITECTURE)


def parsed(printed: str) -> Any:
    """The answer: the last line that SAM prints, or the text itself when that is no JSON."""
    line = printed.strip().rsplit("\n", 1)[-1]
    try:
        return json.loads(line)
    except ValueError:
        return line
