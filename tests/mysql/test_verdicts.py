"""Each error number of MySQL's that asks for something else than giving up, and some that do not."""

from __future__ import annotations

import pymysql
import pytest
from sqlalchemy import exc

import db
from db.settings.engines.mysql import sqlstate_of

RETRY, RECONNECT = db.Verdict.RETRY_TRANSACTION, db.Verdict.RECONNECT
FULL, CREDENTIALS = db.Verdict.WAIT_FOR_CAPACITY, db.Verdict.REFETCH_CREDENTIALS
DISCARD, GIVE_UP = db.Verdict.DISCARD_POOL, db.Verdict.GIVE_UP


@pytest.mark.parametrize(
    ("verdict", "numbers"),
    [
        (RETRY, [1020, 1205, 1213, 1614, 3101, 3572]),
        (RECONNECT, [0, 1047, 1053, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2005, 2006, 2013, 2014]),
        (RECONNECT, [2055, 3032, 4031]),
        (FULL, [1040, 1203, 1226, 1637]),
        (CREDENTIALS, [1045, 1698, 1820, 1862, 3118, 4151]),
        (DISCARD, [1290, 1792, 1836]),
        (GIVE_UP, [1044, 1049, 1062, 1064, 1129, 1130, 1146, 1317, 1406, 1451, 1452, 1969, 2026, 2059, 3024, 3159]),
    ],
    ids=lambda value: value.name if isinstance(value, db.Verdict) else "",
)
def test_an_error_asks_for_what_its_number_says(verdict: db.Verdict, numbers: list[int]) -> None:
    """Through SQLAlchemy's wrapping or without it."""
    for number in numbers:
        error = pymysql.err.OperationalError(number, "said")
        assert db.verdict(error) is verdict, number
        assert db.verdict(exc.OperationalError("SELECT 1", {}, error)) is verdict, number


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1226, "User 'a' has exceeded the 'max_questions' resource (current value: 1)"),
        (1290, "The MySQL server is running with the --secure-file-priv option so it cannot execute this statement"),
    ],
)
def test_one_number_for_several_things_is_told_apart_by_its_words(number: int, said: str) -> None:
    """Some of them no waiting mends."""
    assert db.verdict(pymysql.err.OperationalError(number, said)) is GIVE_UP


def test_an_unknown_number_keeps_the_servers_own_sqlstate() -> None:
    """And gives up, as on PostgreSQL."""
    error = pymysql.err.OperationalError(1234, "said", sqlstate="HY000")
    assert (sqlstate_of(error), db.sqlstate(error), db.verdict(error)) == ("HY000", "HY000", GIVE_UP)
