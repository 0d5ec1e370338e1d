"""A bundle is fetched whole or not at all."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import subprocess
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from devkit.deploys import certificates

from .conftest import bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Devkit

PLACE = "layer/certs/global-bundle.pem"


def test_a_bundle_is_put_where_the_build_looks(served: Callable[[bytes], str], project: Path, devkit: Devkit) -> None:
    """With a count, and the name that functions know it by."""
    status, said = devkit("certs", "--url", served(bundle(5).encode()))
    assert (status, certificates.count((project / PLACE).read_bytes())) == (0, 5 + 4)
    assert said == (
        f"{PLACE}: 5 certificates, and 4 of Amazon's public authorities, for RDS Proxy. `sam build` puts it into the"
        " layer, as /opt/certs/global-bundle.pem\n"
    )
    assert [path.name for path in (project / "layer/certs").iterdir()] == ["global-bundle.pem"]


@pytest.mark.parametrize(
    "content",
    [b"<html>sign in to this network</html>", bundle(2).encode(), bundle(5).encode()[:-60], b"\xff" * 9],
    ids=["a page", "too few", "cut off", "no text"],
)
def test_what_is_no_bundle_leaves_the_old_one(
    content: bytes, served: Callable[[bytes], str], project: Path, devkit: Devkit
) -> None:
    """It would be a deploy that trusts nobody."""
    status, said = devkit("certs", "--url", served(content))
    assert status == 2
    assert "is no bundle of certificates" in said
    assert (project / PLACE).read_text() == bundle(3)


def test_without_a_network_it_says_what_to_do(served: Callable[[bytes], str], project: Path, devkit: Devkit) -> None:
    """The URL, and the place."""
    url = served(b"")
    status, said = devkit("certs", "--url", url)
    assert status == 2
    assert f"Fetch {url} on a machine that may, and put it at {project / PLACE}" in said


def test_whom_to_trust_is_not_asked_in_the_clear(devkit: Devkit) -> None:
    """Whoever answers could name themselves."""
    status, said = devkit("certs", "--url", "http://truststore.example.com/a.pem")
    assert (status, said) == (2, "http://truststore.example.com/a.pem: whom to trust is asked over https only\n")


@pytest.mark.parametrize("url", ["https://[bad", "https://localhost:1/a b.pem", "https://localhost:1/ü"])
def test_what_is_no_url_is_a_sentence(devkit: Devkit, url: str) -> None:
    """That begins with what was given."""
    status, said = devkit("certs", "--url", url)
    assert (status, said.startswith(f"{url}: "), said.count("\n")) == (2, True, 1)


def test_a_bundle_of_another_name_is_found_by_the_deploy(
    served: Callable[[bytes], str], project: Path, devkit: Devkit
) -> None:
    """Which looks for certificates by their suffix."""
    (project / PLACE).unlink()
    url = served(bundle(5).encode()).replace("global-bundle.pem", "mine")
    assert devkit("certs", "--url", url)[0] == 0
    assert certificates.fetched(project) == project / certificates.FOLDER / "mine.pem"


def test_rds_s_own_is_taken_where_there_are_several(project: Path) -> None:
    """Otherwise the only one there."""
    folder = project / "layer/certs"
    (folder / "mine.pem").write_text(bundle(3))
    assert certificates.fetched(project) == folder / "global-bundle.pem"
    (folder / "global-bundle.pem").unlink()
    assert certificates.fetched(project) == folder / "mine.pem"
    (folder / "yours.pem").write_text(bundle(3))
    assert certificates.fetched(project) is None


def test_what_a_proxy_shows_is_signed_by_amazon_s_public_authorities() -> None:
    """RDS's own bundle has none of them; AWS's client brings all four."""
    assert [certificates.serves_a_proxy(one) for one in (*certificates.amazons(), bundle(3).encode(), b"\xff")] == [
        *[True] * 4,
        False,
        False,
    ]


@pytest.fixture
def authorities(tmp_path: Path) -> list[Path]:
    """Folders: each has an authority's certificate, ``ca.pem``, and a server's for localhost that it has signed."""
    folders = [tmp_path / name for name in ("of-rds", "of-acm")]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout"]
    for folder in folders:
        folder.mkdir()
        for command in (
            ["req", "-x509", *key, "ca.key", "-out", "ca.pem", "-subj", f"/CN={folder.name}", "-days", "2"],
            ["req", *key, "key.pem", "-out", "asked.pem", "-subj", "/CN=localhost"],
            ["x509", "-req", "-in", "asked.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2", "-out", "cert.pem"],
        ):
            made = ["openssl", *command, *(["-CAcreateserial"] if command[0] == "x509" else [])]
            subprocess.run(made, check=True, capture_output=True, cwd=folder)
    return folders


def test_a_file_with_both_authorities_verifies_the_servers_of_both(authorities: list[Path], tmp_path: Path) -> None:
    """As libpq reads it, with verify-full; with one of them, the other's server is refused."""
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join((folder / "ca.pem").read_bytes() for folder in authorities))
    for folder, other in zip(authorities, reversed(authorities), strict=True):
        assert SAID in shown(folder, both)
        assert SAID in shown(folder, folder / "ca.pem")
        assert "certificate verify failed" in shown(folder, other / "ca.pem")


SAID = "whoever reads this has verified the server"


def shown(folder: Path, trusted: Path) -> str:
    """How a connection ends to a server with the certificate in ``folder``: the server refuses all whom it hears."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    answer = f"SFATAL\0C28000\0M{SAID}\0\0".encode()

    def serve() -> None:
        plain, _ = listening.accept()
        with plain:
            plain.recv(8)  # SSLRequest
            plain.sendall(b"S")
            with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as secure:
                secure.recv(1024)
                secure.sendall(b"E" + struct.pack("!I", len(answer) + 4) + answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(
                host="localhost",
                hostaddr="127.0.0.1",
                port=listening.getsockname()[1],
                user="app",
                sslmode="verify-full",
                sslrootcert=str(trusted),
                sslnegotiation="postgres",
                gssencmode="disable",
            )
        serving.join()
    return str(caught.value)
