import json

import db
import notes
import pytest
from sqlalchemy import make_url


@pytest.fixture
def table(database, postgres):
    postgres.execute(f"CREATE TABLE notes (body text); GRANT ALL ON notes TO {database.app}", database=database.name)
    db.configure(db.Settings(url=make_url(database.url())))
    yield
    db.dispose()


def test_notes_are_counted(table, lambda_context):
    answers = [notes.handler({"body": body}, lambda_context(remaining_s=3)) for body in ("hello", "again")]
    assert [json.loads(answer["body"]) for answer in answers] == [{"notes": 1}, {"notes": 2}]
    assert db.status()["totals"]["connects"] == 1
