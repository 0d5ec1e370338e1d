"""Functions that run, from what was uploaded.

moto runs a function in Docker, and of one that CloudFormation makes it forgets the layers and the processor. Here it
runs in the kit's Lambda runtime, from the zip files of the function and its layers, on a Python that has nothing else
but what Lambda's image brings: the runtime client and boto3. A library that the layer lacks is missing here too.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import threading
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moto.awslambda.models import LambdaFunction, lambda_backends
from packaging.requirements import Requirement

from devkit.lambda_runtime.environment import RUNNING, LambdaEnvironment
from devkit.lambda_runtime.image import ARCHITECTURE, find_interpreter

from .failure import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from devkit.lambda_runtime.environment import Invocation

    from .resources import Definition

KIND = "AWS::Lambda::Function"
# What the runtime's image brings beside Python.
BROUGHT = ("awslambdaric", "boto3")
OPT = "/opt/"


class UploadedFunction(LambdaFunction):
    """moto's function, invoked in the runtime of ``service``."""

    service: LambdaService
    logical_resource_id: str

    def _invoke_lambda(self, event: Any = None) -> tuple[str, bool, str]:
        done = self.service.invoke(self, json.loads(event) if isinstance(event, str) else event)
        return json.dumps(done.payload), done.error is not None, "\n".join(done.logs)


class LambdaService:
    """Runs functions. ``variables`` says what a function finds in its environment; ``folder`` is for what is unpacked.

    An environment stays as long as neither code nor configuration change, as in Lambda.
    """

    def __init__(self, folder: Path, variables: Callable[[UploadedFunction], Mapping[str, str]]) -> None:
        self._folder = folder
        self._variables = variables
        self._running: dict[str, tuple[str, LambdaEnvironment]] = {}
        self._one_at_a_time = threading.Lock()
        self._python = find_interpreter(RUNNING)

    def __deepcopy__(self, _memo: object) -> LambdaService:
        return self  # moto copies a function to publish a version of it

    def close(self) -> None:
        """End all environments."""
        while self._running:
            self._running.popitem()[1][1].shutdown()

    def invoke(self, function: UploadedFunction, event: Any) -> Invocation:
        """The answer of ``function`` to ``event``. Raises Failed where it cannot run here."""
        with self._one_at_a_time:
            return self._environment(function).invoke({} if event is None else event)

    def invoke_arn(self, arn: str, event: Any) -> Invocation:
        """The same, of the function with that ARN."""
        _, _, _, region, account, *_ = arn.split(":")
        function = lambda_backends[account][region].get_function(arn)
        if not isinstance(function, UploadedFunction):
            raise Failed(f"{arn} is not a function that this stack has made")
        return self.invoke(function, event)

    def _environment(self, function: UploadedFunction) -> LambdaEnvironment:
        if function.run_time != RUNNING or ARCHITECTURE not in function.architectures:
            raise Failed(
                f"{function.function_name} is for {function.run_time} on {', '.join(function.architectures)};"
                f" what runs here is {RUNNING} on {ARCHITECTURE}"
            )
        layers = list(self._layers(function))
        variables = {name: _found_in(layers, value) for name, value in self._variables(function).items()}
        state = json.dumps([function.get_configuration(), dict(variables)], sort_keys=True, default=str)
        kept, running = self._running.get(function.function_name, ("", None))
        if running is None or kept != state:
            if running is not None:
                running.shutdown()
            running = LambdaEnvironment(
                handler=str(function.handler),
                code=[
                    unpacked(function.code_bytes, self._folder),
                    *(layer / "python" for layer in layers),
                    brought(self._folder / "runtime"),
                ],
                environment=variables,
                timeout_s=int(function.timeout),
                memory_mb=int(function.memory_size),
                name=function.function_name,
                python=self._python,
                runtime=str(function.run_time),
            )
            running.start()
            self._running[function.function_name] = (state, running)
        return running

    def _layers(self, function: UploadedFunction) -> Iterator[Path]:
        backend = lambda_backends[function.account_id][function.region]
        for layer in function.layers:
            version = backend.layers_versions_by_arn(layer["Arn"])
            if version is not None:
                yield unpacked(version.code_bytes, self._folder)


class FunctionMaker:
    """Functions with everything that the template says of them."""

    def __init__(self, service: LambdaService, account_id: str, region: str) -> None:
        self._service = service
        self._account_id = account_id
        self._region = region

    def create(self, definition: Definition) -> UploadedFunction:
        """A function that can be invoked."""
        spec = {**_spec(definition), "FunctionName": definition.physical_name}
        # moto leaves two of its abstract methods open, in its own function as well.
        function = UploadedFunction(self._account_id, spec, self._region, version="$LATEST")  # type: ignore[abstract]
        function.service = self._service
        lambda_backends[self._account_id][self._region]._lambdas.put_function(function)  # noqa: SLF001 - no public way in
        return function

    def update(self, made: UploadedFunction, definition: Definition, _before: Definition) -> UploadedFunction:
        """Code and configuration are the definition's."""
        spec = _spec(definition)
        made.update_configuration({"Environment": {"Variables": {}}, **spec})
        made.update_function_code(spec["Code"])
        made.architectures = spec.get("Architectures", ["x86_64"])
        return made

    def delete(self, made: UploadedFunction, _definition: Definition) -> None:
        """It is no more."""
        made.delete(self._account_id, self._region)


def _spec(definition: Definition) -> dict[str, Any]:
    """As Lambda's own API has it."""
    spec = json.loads(json.dumps(definition.properties))
    spec["Tags"] = {tag["Key"]: tag["Value"] for tag in spec.get("Tags", [])}
    if inline := spec["Code"].get("ZipFile"):
        spec["Code"]["ZipFile"] = base64.b64encode(LambdaFunction._create_zipfile_from_plaintext_code(inline))  # noqa: SLF001 - as moto's own
    return spec  # type: ignore[no-any-return]


def _found_in(layers: list[Path], value: str) -> str:
    """A path to what a layer holds, as it is here: Lambda unpacks layers into /opt. Any other value as it is."""
    if not value.startswith(OPT):
        return value
    here = [layer / value.removeprefix(OPT) for layer in layers]
    return next((str(path) for path in here if path.exists()), value)


def brought(folder: Path) -> Path:
    """The folder, filled once with links to what Lambda's image brings, and to nothing else that is installed here."""
    if not folder.exists():
        folder.mkdir()
        for distribution in sorted(_with_what_they_need(BROUGHT)):
            for path in metadata.files(distribution) or ():
                link = folder / path.parts[0]
                if path.parts[0] != ".." and not link.exists():
                    link.symlink_to(Path(str(path.locate())).parents[len(path.parts) - 1] / path.parts[0])
    return folder


def unpacked(content: bytes, folder: Path) -> Path:
    """The folder that holds what is in a zip file; each is unpacked once."""
    place = folder / hashlib.sha256(content).hexdigest()[:16]
    if not place.exists():
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(place)
    return place


def _with_what_they_need(names: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name not in found:
            found.add(name)
            needed = [Requirement(text) for text in metadata.requires(name) or ()]
            waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found
