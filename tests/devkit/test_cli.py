"""What the command line says before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from devkit import cli
from devkit.extras import MissingPackageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("command", "extra"),
    [("demo", "sam"), ("sam-local", "sam"), ("rehearse", "sam"), ("fleet", "fleet"), ("deploy", "sam")],
)
def test_a_command_whose_packages_are_missing_names_its_extra(
    command: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a sentence, and before the first import that would fail in another one."""

    def require(name: str) -> None:
        raise MissingPackageError(f"install devkit[{name}]")

    monkeypatch.setattr(cli, "require", require)
    assert cli.main([command]) == 2
    assert capsys.readouterr().err == f"install devkit[{extra}]\n"


def test_an_application_that_cannot_be_used_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a status of its own: nothing ran, so nothing was answered wrongly."""
    (tmp_path / "template.yaml").write_text("Resources: {}")
    assert cli.main(["demo", "--root", str(tmp_path)]) == 2
    assert "holds no events" in capsys.readouterr().err


def test_a_command_that_is_interrupted_ends_as_a_shell_expects(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is no fault of the program, and shows none of its lines."""

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "require", interrupted)
    assert cli.main(["deploy"]) == cli.INTERRUPTED
    assert capsys.readouterr().err == "\ninterrupted\n"


def test_fuzz_is_a_scenario_where_a_test_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    """The kit has none of its own: what must not happen is for the application to say."""
    with pytest.raises(SystemExit):
        cli.main(["fleet", "fuzz"])
    assert "there is no scenario fuzz" in (said := capsys.readouterr().err)
    assert "(fuzz takes --fuzz)" in said
