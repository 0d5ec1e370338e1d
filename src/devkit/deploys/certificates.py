"""The authorities that signed RDS's certificates, fetched to where `sam build` puts them into the layer.

A server of RDS has a certificate of RDS's own authorities; an RDS Proxy has one of ACM's, which Amazon's public ones
have signed. A file that holds both serves whoever is reached, so that nothing has to be told apart.
https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/rds-proxy.howitworks.html
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path

import botocore

from devkit.app.errors import ProjectError

URL = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
FOLDER = Path("layer", "certs")
IN_LAMBDA = "/opt/certs/"
SUFFIX = ".pem"  # by which a build's bundle is found again
LOOPBACK = ("localhost", "127.0.0.1", "::1")

TIMEOUT_S = 30.0
MOST_BYTES = 4 << 20  # RDS's global bundle has less than 200 KB
FEWEST = 3  # a region's own bundle has one authority for each kind of key

# Amazon Root CA 1 to 4: https://www.amazontrust.com/repository/
PUBLIC = re.compile(r"Amazon Root CA \d")
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?\n-----END CERTIFICATE-----\n", re.DOTALL)


def fetch(root: Path, url: str = URL) -> int:
    """Put what ``url`` answers into ``layer/certs/``, if it is a bundle, and Amazon's public ones; an exit status."""
    try:
        name = Path(urllib.parse.urlsplit(url).path).name or "bundle"
    except ValueError as error:
        raise ProjectError(f"{url}: {error}") from error
    path = root / FOLDER / (name if name.endswith(SUFFIX) else f"{name}{SUFFIX}")
    content = _download(url, path)
    number = count(content)
    if number < FEWEST:
        raise ProjectError(
            f"{url} is no bundle of certificates: {number} of them in {len(content)} bytes, which begin"
            f" {content[:20]!r}. {by_hand(url, path)}"
        )
    own = amazons()
    write(path, b"".join((content.rstrip(), b"\n", *own)))
    print(
        f"{path.relative_to(root)}: {number} certificates, and {len(own)} of Amazon's public authorities, for RDS"
        f" Proxy. `sam build` puts it into the layer, as {in_lambda(path)}"
    )
    return 0


def amazons() -> list[bytes]:
    """Amazon's public authorities, out of those that AWS's own client brings: no network has a say in them."""
    brought = Path(botocore.__file__).with_name("cacert.pem").read_text()
    return [block.encode() for block in CERTIFICATE.findall(brought) if serves_a_proxy(block.encode())]


def serves_a_proxy(content: bytes) -> bool:
    """Whether one of Amazon's public authorities is among them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with contextlib.suppress(UnicodeDecodeError, ssl.SSLError, ValueError):
        context.load_verify_locations(cadata=content.decode("ascii"))
    return any(PUBLIC.search(str(one.get("subject"))) for one in context.get_ca_certs())


def by_hand(url: str, path: Path) -> str:
    """What to do without a network."""
    return f"Fetch {url} on a machine that may, and put it at {path}"


def in_lambda(path: Path) -> str:
    """Where a function finds what is at ``path`` here."""
    return f"{IN_LAMBDA}{path.name}"


def fetched(root: Path) -> Path | None:
    """The bundle in ``layer/certs/``: RDS's global one, else the only one there. None where it cannot be read."""
    found = sorted((root / FOLDER).glob(f"*{SUFFIX}"))
    first = root / FOLDER / Path(URL).name
    path = first if first in found or len(found) != 1 else found[0]
    return path if path in found and count(path.read_bytes()) else None


def count(content: bytes) -> int:
    """How many certificates OpenSSL reads; 0 where it reads no text, or stumbles over one of them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=content.decode("ascii"))
    except (UnicodeDecodeError, ssl.SSLError, ValueError):
        return 0
    return context.cert_store_stats()["x509"]


def write(path: Path, content: bytes) -> None:
    """All of it or nothing: a build may be reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(draft).unlink()
        raise


def _download(url: str, path: Path) -> bytes:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ProjectError(f"{url}: whom to trust is asked over https only")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - https, by the lines above
            content: bytes = answer.read(MOST_BYTES)
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer as well, with an open connection
        raise ProjectError(f"{url}: {error}. {by_hand(url, path)}") from error
    return content
