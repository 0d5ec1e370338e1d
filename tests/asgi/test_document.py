"""What docs/use/asgi.md shows runs as it stands there."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from tests.asgi.test_mangum import api_v2
from tests.contract.test_documents import NOTES, ROOT, python_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.postgres import Postgres
    from tests.asgi.conftest import Ask, Use


@pytest.fixture
def shown(
    database: Database, postgres: Postgres, use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The page's code, as a module: the frameworks look annotations up there."""
    postgres.execute(NOTES.format(role=database.app), database=database.name)
    use()
    (tmp_path / "shown_on_the_page.py").write_text("\n".join(python_in(ROOT / "docs" / "use" / "asgi.md")))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("shown_on_the_page")
    del sys.modules["shown_on_the_page"]


def test_the_documents_handler_works(shown: ModuleType, lambda_context: MakeLambdaContext) -> None:
    """The tenant of the event's claims has the note."""
    added = api_v2("/notes") | {"rawQueryString": "body=hello"}
    added["requestContext"]["http"]["method"] = "POST"
    other = api_v2("/notes")
    other["requestContext"]["authorizer"]["jwt"]["claims"] = {"tenant_id": "globex"}
    answers = [shown.handler(event, lambda_context()) for event in (added, api_v2("/notes"), other)]
    assert [(answer["statusCode"], answer["body"]) for answer in answers] == [(201, "null"), (200, "1"), (200, "0")]


def test_the_documents_litestar_works(shown: ModuleType, ask: Ask) -> None:
    """Without a tenant it sees no note."""
    assert ask(shown.with_litestar, "GET /notes")[0].text == "0"
