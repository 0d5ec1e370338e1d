"""What the documents show runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import make_url

import db
from db import runtime
from db.settings import Settings
from devkit.postgres import Postgres

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeLambdaContext

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

NOTES = """
CREATE TABLE notes (tenant_id text NOT NULL DEFAULT current_setting('app.tenant_id'), body text NOT NULL);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notes USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), ''));
GRANT SELECT, INSERT ON notes TO {role}
"""


def python_in(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def test_the_readmes_handler_works(database: Database, postgres: Postgres, lambda_context: MakeLambdaContext) -> None:
    """Each tenant counts its own notes."""
    postgres.execute(NOTES.format(role=database.app), database=database.name)
    db.configure(Settings(url=make_url(database.url())))
    (block,) = python_in(ROOT / "README.md")
    shown: dict[str, Any] = {}
    exec(block, shown)  # noqa: S102 - the document's own code
    counts = [
        shown["handler"]({"tenant": tenant, "body": "hello"}, lambda_context())["notes"]
        for tenant in ("acme", "acme", "globex")
    ]
    db.dispose()
    runtime._runtime = None
    assert counts == [1, 2, 1]


def test_the_tests_in_the_documents_pass(tmp_path: Path) -> None:
    """Run by pytest in a project of their own."""
    (block,) = python_in(ROOT / "docs" / "testing.md")
    (tmp_path / "test_documented.py").write_text(block)
    assert (
        pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--rootdir", str(tmp_path), str(tmp_path)])
        == 0
    )


def test_the_roles_and_the_database_are_made_as_documented() -> None:
    """By a master user who is no superuser, as on RDS."""
    document = (ROOT / "docs" / "database.md").read_text()
    (block,) = re.findall(r"^```sql\n(CREATE ROLE.*?)^```", document, re.DOTALL | re.MULTILINE)
    with Postgres() as server:
        server.create_role("master", "…", options="LOGIN CREATEROLE CREATEDB")
        login = server.url("postgres", "master", "…").replace("+psycopg", "")
        with psycopg.connect(login, autocommit=True) as master:
            for statement in block.strip().splitlines():
                master.execute(statement.encode())
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'orders'"
        assert server.execute(owner) == [("owner",)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_the_documents_lead_somewhere(document: Path) -> None:
    """To a file that is there."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []
