"""The files that TLS is told of: what cannot be one is refused before the network is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from db.errors import ConfigurationError
from db.pool.certificates import require_files

if TYPE_CHECKING:
    from pathlib import Path

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for name, content in {
        "roots.pem": CERTIFICATE * 3,
        "key.pem": KEY,
        "empty.pem": "",
        "page.pem": "<html>403</html>",
        "cut.pem": CERTIFICATE + CERTIFICATE[:40],
    }.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file", "complaint"),
    [
        ("sslrootcert", "empty.pem", "is empty"),
        ("sslrootcert", "page.pem", "holds no certificate in PEM"),
        ("sslrootcert", "cut.pem", "is cut off: 2 blocks begin in it and 1 end"),
        ("sslrootcert", "nowhere.pem", "does not exist"),
        ("sslrootcert", ".", "cannot be read"),
        ("sslcert", "nowhere.pem", "does not exist"),
        ("sslcert", "key.pem", "holds no certificate in PEM"),
        ("sslkey", "roots.pem", "holds no private key in PEM"),
        ("sslkey", "nowhere.pem", "does not exist"),
        ("sslcrl", "nowhere.pem", "does not exist"),
    ],
)
def test_a_file_that_cannot_be_it_is_refused_by_name(name: str, file: str, complaint: str, made: Path) -> None:
    """Each was waited for as if the network were in the way, or passed over without a word."""
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        require_files({"sslmode": "verify-full", name: str(made / file)})
    assert ("DB_SSLROOTCERT" if name == "sslrootcert" else name) in str(caught.value)


def test_files_that_may_be_it_pass(made: Path) -> None:
    """A bundle, a key, OpenSSL's own store; and nothing is looked at where there is no TLS."""
    require_files({"sslmode": "verify-full", "sslrootcert": str(made / "roots.pem"), "sslkey": str(made / "key.pem")})
    require_files({"sslmode": "verify-full", "sslrootcert": "system"})
    require_files({"sslmode": "disable", "sslrootcert": str(made / "empty.pem")})
