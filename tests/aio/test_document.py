"""What docs/use/aio.md shows runs as it stands there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.contract.test_documents import NOTES, ROOT, python_in

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeLambdaContext
    from devkit.servers.postgres import Postgres
    from tests.aio.conftest import Use


def test_the_documents_handler_works(
    database: Database, postgres: Postgres, use: Use, lambda_context: MakeLambdaContext
) -> None:
    """Each tenant sees its own notes, though both are read at once."""
    postgres.execute(NOTES.format(role=database.app), database=database.name)
    use()
    block, *_ = python_in(ROOT / "docs" / "use" / "aio.md")
    shown: dict[str, Any] = {}
    exec(block, shown)  # noqa: S102 - the document's own code
    events = ({"tenant": mine, "other": theirs, "body": mine} for mine, theirs in (("a", "b"), ("b", "a")))
    answers = [shown["handler"](event, lambda_context()) for event in events]
    assert answers == [{"mine": ["a"], "theirs": []}, {"mine": ["b"], "theirs": ["a"]}]
