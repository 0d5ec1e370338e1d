import json

import db
import heroes
import pytest
from sqlalchemy import make_url


@pytest.fixture
def table(database):
    db.configure(db.Settings(url=make_url(database.url("owner"))))
    with db.begin() as tx:
        heroes.SQLModel.metadata.create_all(tx)
    yield
    db.dispose()


def test_a_hero_is_kept(table, lambda_context):
    answers = [heroes.handler({"name": name}, lambda_context()) for name in ("Rusty-Man", "Deadpond")]
    assert [json.loads(answer["body"]) for answer in answers] == [["Rusty-Man"], ["Deadpond", "Rusty-Man"]]


def test_an_error_leaves_no_hero(table, lambda_context):
    with pytest.raises(KeyError):
        heroes.handler({}, lambda_context())
    assert json.loads(heroes.handler({"name": "Deadpond"}, lambda_context())["body"]) == ["Deadpond"]
