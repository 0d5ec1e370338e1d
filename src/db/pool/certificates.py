"""The files that TLS is told of, looked at before a connect: no waiting mends one that is empty, cut off or missing.

libpq goes on without a client's certificate that is not there, and takes an empty file of roots for a network's fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.errors import DOCUMENTATION, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FILES = {"sslrootcert": "CERTIFICATE", "sslcert": "CERTIFICATE", "sslkey": "PRIVATE KEY", "sslcrl": "X509 CRL"}
_PAGE = f"see {DOCUMENTATION}start/packaging/#the-databases-certificates"


def require_files(params: Mapping[str, Any]) -> None:
    """Raise ConfigurationError where a file that ``params`` name for TLS cannot be what it is named for."""
    if params.get("sslmode") == "disable":
        return
    if problems := list(_problems(params)):
        raise ConfigurationError(problems)


def _problems(params: Mapping[str, Any]) -> Iterator[str]:
    for name, kind in _FILES.items():
        path = params.get(name)
        # "system" is OpenSSL's own store, and a key may be another engine's: "engine:id".
        if not path or (name == "sslrootcert" and path == "system") or (name == "sslkey" and ":" in str(path)):
            continue
        if problem := _problem(Path(path), kind):
            setting = "DB_SSLROOTCERT" if name == "sslrootcert" else name
            yield f"{setting}={str(path)!r} {problem}: {_PAGE}"


def _problem(path: Path, kind: str) -> str | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "names a file that does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    begun, ended = content.count(b"-----BEGIN "), content.count(b"-----END ")
    if kind.encode() + b"-----" not in content:
        if kind == "PRIVATE KEY" and content[:1] == b"\x30":
            return None  # DER, which libpq reads for a key alone
        return f"holds no {kind.lower()} in PEM" if content else "is empty"
    return None if begun == ended else f"is cut off: {begun} blocks begin in it and {ended} end"
