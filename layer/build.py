"""Makes a Lambda layer of the locked dependencies: ``python build.py <folder> --runtime python3.13 --arch arm64``.

`sam build` calls it by the makefile beside it, with the layer's logical id in the place of both: then the template says
them. `make layer` calls it with ``--project``, which puts `db` into the layer too, for functions that do not carry it.

Nothing is compiled for the machine that builds, so any machine builds for both processors.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from template import Resource

HERE = Path(__file__).resolve().parent
IN_LAMBDA = "/opt/python"
# Each runs on Amazon Linux 2023 with glibc 2.34; wheels for 2.28 and before run on it.
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
RUNTIMES = ("python3.12", "python3.13", "python3.14")
PLATFORMS = {"arm64": "aarch64-manylinux_2_28", "x86_64": "x86_64-manylinux_2_28"}

# "250 MB", of a function and all its layers, unzipped.
LIMIT_BYTES = 250 * 2**20
LIMITS = "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"

# A file in the layer's folder that lists what the build made there. Lambda unpacks it to /opt, where nothing reads it.
MARK = ".made-by-layer-build"
FOLDERS = ("python", "certs")


class BuildError(Exception):
    """The layer cannot be built as asked; the message says what to give."""


def main(arguments: Sequence[str]) -> None:
    given = _parsed(arguments)
    if given.layer and not (given.runtime and given.arch):
        _fill_in_from_template(given)
    runtime, arch = given.runtime, given.arch
    problems = [_problem("RUNTIME", runtime, RUNTIMES), _problem("ARCH", arch, PLATFORMS)]
    if any(problems):
        raise BuildError("; ".join(filter(None, problems)))
    version = runtime.removeprefix("python")
    packages = _emptied(given.out) / "python"
    for what in _wanted(given):
        _install(packages, version, PLATFORMS[arch], *what)
    if (HERE / "certs").is_dir():  # the database's certificate authorities, where the user has put them
        shutil.copytree(HERE / "certs", given.out / "certs")
    _slim(packages, interpreter(version, given.python), runtime)
    _mark(given.out, _entries(given.out))
    _say_size(given.layer or str(given.out), runtime, arch, packages)


def _problem(name: str, value: str | None, known: Collection[str]) -> str | None:
    """What is wrong with a value; None where nothing is."""
    if not value:
        return f"{name} is missing: for which of {', '.join(known)} is the layer?"
    return None if value in known else f"a layer can be built for {', '.join(known)}, and not for {value!r}"


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the layer's folder: new, empty, or a layer made before")
    parser.add_argument("--runtime", help=", ".join(RUNTIMES))
    parser.add_argument("--arch", help=" or ".join(PLATFORMS))
    parser.add_argument("--python", help="the interpreter that compiles the bytecode, where none is found by itself")
    parser.add_argument("--also", type=Path, help="a requirements file: what else to install, and what that needs")
    parser.add_argument("--project", type=Path, help="a source tree to install as well: this repository's root, for db")
    parser.add_argument("--layer", help="the logical id, to read runtime and processor from the template")
    parser.add_argument(
        "--above", type=Path, default=HERE, help="the folder from which templates are looked for upwards"
    )
    parser.add_argument("--template", type=Path, help="the template, where it has another name")
    return parser.parse_args(arguments)


def _fill_in_from_template(given: argparse.Namespace) -> None:
    """Runtime and processor as the layer's resource says them, where they were not given, and whether db goes in."""
    from template import TemplateError, resource  # takes PyYAML, which the makefile brings

    try:
        layer = resource(given.layer, above=given.above, template=given.template)
    except TemplateError as error:
        raise BuildError(str(error)) from error
    given.runtime = given.runtime or _only_one(layer, "CompatibleRuntimes", "[python3.13]")
    given.arch = given.arch or _only_one(layer, "CompatibleArchitectures", "[arm64]")
    if layer.metadata.get("Include") == "db":
        given.project = given.above.resolve().parent


def _only_one(layer: Resource, key: str, example: str) -> str:
    values = layer.properties.get(key)
    match values:
        case [str(value)]:  # a list of one literal
            return value
    raise BuildError(
        f"{layer.template}: {key} of {layer.name} is {values or 'missing'}, and compiled wheels serve exactly one: "
        f"write {key}: {example}, for instance, and a layer of its own for each other"
    )


def _emptied(out: Path) -> Path:
    """``out`` without the layer that an earlier build left there, as its mark lists it. Anything else is somebody's."""
    made = set((out / MARK).read_text().splitlines()) if (out / MARK).is_file() else set()
    others = [name for name in _entries(out) if made.isdisjoint({name, name.partition("/")[0]})]
    if others:
        named = ", ".join(others[:5]) + (", ..." if others[5:] else "")
        raise BuildError(f"{out} holds {named}, which no build put there: give a folder that is new, empty, or a layer")
    for name in FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    # Whatever is in them from here on is this build's, should it fail half-way.
    _mark(out, ["python", "certs"] if (HERE / "certs").is_dir() else ["python"])
    return out


def _entries(out: Path) -> list[str]:
    """What is in ``out`` and in the folders of a layer there, but for the mark and what an import leaves behind."""
    found = [path for path in out.glob("*") if path.name not in FOLDERS or not path.is_dir()]
    found += [path for name in FOLDERS for path in out.glob(f"{name}/*") if path.name != "__pycache__"]
    return sorted(str(path.relative_to(out)) for path in found if path.name != MARK)


def _mark(out: Path, made: Iterable[str]) -> None:
    (out / MARK).write_text("".join(f"{name}\n" for name in made))


def _wanted(given: argparse.Namespace) -> Iterator[Sequence[str]]:
    """What to install, in this order, as uv takes it."""
    ours = HERE / ("db.txt" if given.project else "requirements.txt")
    # Wheels only, so that nothing is compiled for the machine that builds. A lock is taken as it stands.
    locked = ("--no-deps", "--require-hashes") if "--hash=" in ours.read_text() else ()
    yield ("--only-binary", ":all:", *locked, "--requirement", str(ours))
    if given.also:
        yield ("--only-binary", ":all:", "--requirement", str(given.also), "--constraint", str(ours))
    if given.project:  # pure Python, so its wheel may be built here
        yield ("--no-deps", str(given.project))


def _install(packages: Path, version: str, platform: str, *what: str) -> None:
    for_lambda = ["--python-platform", platform, "--python-version", version]
    options = ["--quiet", "--link-mode", "copy", "--target", str(packages), *for_lambda]
    subprocess.run([_uv(), "pip", "install", *options, *what], check=True)


def _uv() -> str:
    found = shutil.which("uv")
    if not found:
        raise BuildError("the build takes uv, and there is none on the PATH: https://docs.astral.sh/uv/")
    return found


def interpreter(version: str, given: str | None = None) -> str | None:
    """A Python ``version`` to compile for it: the one given, or one of uv's, pyenv's, or that uv can fetch; or None."""
    if given:
        if not _is(given, version):
            raise BuildError(f"bytecode for Lambda's python{version} takes a Python {version}, and {given} is none")
        return given
    return next((python for python in _interpreters(version) if _is(python, version)), None)


def _interpreters(version: str) -> Iterator[str]:
    yield _printed(_uv(), "python", "find", "--no-project", version)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from (str(path) for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True))
    name = "import sys; print(sys.executable)"
    yield _printed(_uv(), "run", "--no-project", "--python", version, "python", "-c", name)


def _is(python: str, version: str) -> bool:
    return bool(python) and _printed(python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])") == version


def _printed(*command: str) -> str:
    """What a command prints, or nothing where it fails or is not there."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _slim(packages: Path, python: str | None, runtime: str) -> None:
    # Bytecode in the place of sources, no debug information, nothing that cannot be imported: docs/start/packaging.md.
    if python:
        subprocess.run([python, "-X", "no_debug_ranges", HERE / "slim.py", packages, IN_LAMBDA], check=True)
        return
    subprocess.run([sys.executable, HERE / "slim.py", packages, IN_LAMBDA, "--sources"], check=True)
    print(
        f"no {runtime} was found here to compile for: the layer holds sources alone. They work, but each cold start "
        "compiles what it imports, which takes 2.8 times as long. BYTECODE_PYTHON=<path> names an interpreter."
    )


def _say_size(name: str, runtime: str, arch: str, packages: Path) -> None:
    size, usual = size_of(packages), json.loads((HERE / "sizes.json").read_text())[runtime][arch]
    print(f"{name}: {size} bytes unzipped, for {runtime} on {arch}")
    if size > usual * 1.1:
        print(
            f"warning: the dependencies of db alone are {usual} bytes, and a cold start unpacks whatever is there. "
            f"Lambda allows a function with all its layers {LIMIT_BYTES}: {LIMITS}"
        )


def size_of(packages: Path) -> int:
    """The bytes of all files, as Lambda counts them."""
    return sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BuildError as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed with status {error.returncode}: {error.cmd[0]}")  # which has said why
