"""A bundle is fetched whole or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    assert (status, certificates.count((project / PLACE).read_bytes())) == (0, 5)
    assert said == f"{PLACE}: 5 certificates. `sam build` puts it into the layer, as /opt/certs/global-bundle.pem\n"
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


def test_rds_s_own_is_taken_where_there_are_several(project: Path) -> None:
    """Otherwise the only one there."""
    folder = project / "layer/certs"
    (folder / "mine.pem").write_text(bundle(3))
    assert certificates.fetched(project) == folder / "global-bundle.pem"
    (folder / "global-bundle.pem").unlink()
    assert certificates.fetched(project) == folder / "mine.pem"
    (folder / "yours.pem").write_text(bundle(3))
    assert certificates.fetched(project) is None
