"""The image of the Lambda runtime: AWS's where it can be pulled, or a stand-in under the same name.

Where no registry can be reached, the stand-in is built once from Debian's packages, a Python of the runtime's version
and awslambdaric. What it has in common with the original and what not:
https://serverless-data-access.github.io/serverless-data-access/start/packaging/#make-sam-local
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from devkit.servers import debian
from devkit.servers.cache import cache_folder

from . import debian_python
from .docker import DockerError, Engine, need, run

ARCHITECTURE = "arm64" if platform.machine().lower() in {"arm64", "aarch64"} else "x86_64"
REPOSITORY = "public.ecr.aws/lambda/python"
# The stand-in's label tells what it was made from, so that a newer client or a change of this file makes a newer image.
LABEL = "devkit.stand-in"
CLIENT = tuple(f"{name}=={version(name)}" for name in ("awslambdaric", "boto3", "botocore"))

# 230 MB at 2 MB/s. Without a route to the registry the engine gives up by itself, earlier.
PULL_S = 120.0

# What a function never imports: 200 MB of the 240 in an interpreter's lib folder.
NOT_IN_IMAGE = (
    "site-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "config-*",
)
NOT_LOADED = ("_tkinter.*", "_test*", "_ctypes_test.*", "xxlimited*", "*.a")

# With the name of the interpreter for RUNTIME, such as python3.13.
BOOTSTRAP = """\
#!/bin/sh
# /opt/python before the runtime's own packages: a layer's boto3 wins over the image's, as it does in Lambda.
export AWS_EXECUTION_ENV=AWS_Lambda_RUNTIME
export PYTHONPATH="/opt/python/lib/RUNTIME/site-packages:/opt/python:/var/runtime"
exec /var/lang/bin/RUNTIME -m awslambdaric "$_HANDLER"
"""

ENTRYPOINT = """\
#!/bin/sh
if [ $# -ne 1 ]; then
  echo "entrypoint requires the handler name to be the first argument" >&2
  exit 142
fi
export _HANDLER="$1"
if [ -z "$AWS_LAMBDA_RUNTIME_API" ]; then
  exec /var/rapid/aws-lambda-rie /var/runtime/bootstrap
fi
exec /var/runtime/bootstrap
"""

# As the image of AWS declares them; the library path also serves an interpreter that was built with another prefix.
LIBRARIES = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
DECLARED = (
    "ENV LANG=C.UTF-8",
    "ENV TZ=:/etc/localtime",
    "ENV PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    f"ENV LD_LIBRARY_PATH={LIBRARIES}",
    "ENV LAMBDA_TASK_ROOT=/var/task",
    "ENV LAMBDA_RUNTIME_DIR=/var/runtime",
    "WORKDIR /var/task",
    'ENTRYPOINT ["/lambda-entrypoint.sh"]',
)


def runtime_image(server: Engine, runtime: str) -> str:
    """Make sure that the engine has the image of ``runtime``, such as python3.13, and say where it came from.

    Raises DockerError where it can be neither pulled nor made.
    """
    name = image_name(runtime)
    origin = inspect_label(server, name)
    if origin == stand_in_version():
        return "stand-in, cached"
    if origin == "":
        return "AWS's image, cached"
    try:
        server.docker("pull", "--quiet", name, timeout_s=PULL_S)
    except (DockerError, subprocess.TimeoutExpired):
        build_stand_in(server, runtime)
        return "stand-in, built"
    return "AWS's image, pulled"


def image_name(runtime: str) -> str:
    """What AWS calls the image, and SAM looks for."""
    return f"{REPOSITORY}:{runtime.removeprefix('python')}-{ARCHITECTURE}"


def inspect_label(server: Engine, name: str) -> str | None:
    """The stand-in's version, an empty string for an image that is not ours, None when there is no image."""
    form = f'{{{{with .Config.Labels}}}}{{{{index . "{LABEL}"}}}}{{{{end}}}}'
    try:
        return server.docker("image", "inspect", name, "--format", form)
    except DockerError:
        return None


def stand_in_version() -> str:
    """What the stand-in is made from; a change makes a new one."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    return " ".join((*CLIENT, recipe))


def build_stand_in(server: Engine, runtime: str) -> None:
    """Debian's smallest system, the interpreter in /var/lang, the runtime client and boto3, and a bootstrap."""
    need("debootstrap", "debootstrap")
    interpreter = find_interpreter(runtime)
    if debian_python.brings_its_libc(interpreter):
        raise DockerError(
            f"the runtime image cannot be pulled, and its stand-in takes a {runtime} that runs on this system's own C"
            f" library, which {interpreter} does not"
        )
    try:
        release, mirror = debian.release(), debian.mirror()
    except debian.FetchError as error:
        raise DockerError(f"the runtime image cannot be pulled, and its stand-in cannot be built: {error}") from error
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="rootfs-") as temporary:
        root = Path(temporary)
        run(["debootstrap", "--variant=minbase", release, root, mirror])
        slim(root)
        copy_interpreter(interpreter, root, runtime)
        packages = root / f"var/lang/lib/{runtime}/site-packages"
        run([uv(), "pip", "install", "--quiet", "--python", interpreter, "--target", packages, *CLIENT])
        run([interpreter, "-m", "compileall", "-q", "-j0", "-s", root, "-p", "/", root / "var/lang/lib"])
        write_program(root / "var/runtime/bootstrap", BOOTSTRAP.replace("RUNTIME", runtime))
        write_program(root / "lambda-entrypoint.sh", ENTRYPOINT)
        (root / "var/task").mkdir()
        import_image(server, root, image_name(runtime))


def find_interpreter(runtime: str) -> Path:
    """A Python of the runtime's version: the one that runs, or the one that uv finds."""
    running = Path(sys.base_prefix) / "bin" / runtime
    if f"python{sys.version_info.major}.{sys.version_info.minor}" == runtime and running.exists():
        return running
    found = run([uv(), "python", "find", "--no-project", "--system", runtime]).stdout.strip()
    return Path(found).resolve()


def uv() -> str:
    """The uv of this environment."""
    import uv as package

    return package.find_uv_bin()


def slim(root: Path) -> None:
    """Drop what a running function never opens: a third of the system."""
    for folder in ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/lib/apt/lists"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for archive in (root / "var/cache/apt").rglob("*.*"):
        archive.unlink()


def copy_interpreter(interpreter: Path, root: Path, runtime: str) -> None:
    """Put the interpreter where Lambda has it, with the libraries that Debian's smallest system lacks."""
    prefix, target = interpreter.parents[1], root / "var/lang"
    library = target / "lib" / runtime
    shutil.copytree(
        prefix / "lib" / runtime,
        library,
        ignore=shutil.ignore_patterns(*NOT_IN_IMAGE, *NOT_LOADED, "__pycache__"),
    )
    (target / "bin").mkdir()
    shutil.copy2(interpreter, target / "bin" / runtime)
    for name in ("python3", "python"):
        (target / "bin" / name).symlink_to(runtime)
    for binary in (interpreter, *(library / "lib-dynload").glob("*.so")):
        copy_libraries(binary, prefix, root)


def copy_libraries(binary: Path, prefix: Path, root: Path) -> None:
    """Copy what a binary links to: the interpreter's own libraries to /var/lang/lib, others to their path."""
    for match in re.finditer(r"=> (/\S+)", run(["ldd", binary]).stdout):
        source = Path(match[1])
        target = root / "var/lang/lib" / source.name if source.is_relative_to(prefix) else root / match[1].lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def write_program(path: Path, text: str) -> None:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def import_image(server: Engine, root: Path, name: str) -> None:
    """Hand the folder to the engine as an image with one layer."""
    declared = [f"--change={line}" for line in (*DECLARED, f'LABEL {LABEL}="{stand_in_version()}"')]
    archive = root.with_suffix(".tar")
    try:
        run(["tar", "-C", root, "-cf", archive, "."])
        server.docker("import", *declared, archive, name)
    finally:
        archive.unlink(missing_ok=True)
