"""How a cluster is entered, and what happens when a session's hour is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import db

from .conftest import add, numbers

if TYPE_CHECKING:
    from devkit.servers.dsql import DsqlStandIn

    from .conftest import Use


@pytest.mark.usefixtures("ledger")
def test_a_token_that_is_refused_is_signed_anew(use: Use, dsql: DsqlStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the keys as they are then: those of a function's role are renewed under it."""
    use()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of another role")
    tries: list[str] = []
    admits = dsql.wire.admits

    def renewing(user: str, token: str) -> bool:
        tries.append(user)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", dsql.keys.secret_access_key)
        return admits(user, token)

    dsql.wire.admits = renewing
    assert db.run(add, 1) == 1
    assert tries == ["app", "app"]


def test_a_right_that_is_missing_is_said(use: Use, dsql: DsqlStandIn) -> None:
    """In DSQL's words, once the time to wait for it is over: a role may be about to get it."""
    dsql.wire.admits = lambda *_: False
    use(connect_wait_s=0.0)
    with pytest.raises(Exception, match="unable to accept connection, access denied") as refused:
        db.run(add, 1)
    assert db.verdict(refused.value) is db.Verdict.REFETCH_CREDENTIALS


def test_too_many_connects_a_second_are_capacity(use: Use, dsql: DsqlStandIn) -> None:
    """A cluster takes a hundred a second, and is waited for with backoff."""
    dsql.wire.refuse_logins("unable to accept connection, rate exceeded")
    use(connect_wait_s=0.0)
    with pytest.raises(db.CapacityError, match="rate exceeded"):
        db.run(add, 1)


@pytest.mark.usefixtures("ledger")
def test_a_session_that_is_too_old_is_replaced_unseen(dsql: DsqlStandIn) -> None:
    """It ends between two transactions, and the first flight goes over another one."""
    assert db.run(add, 1) == 1
    before = dsql.wire.counts().connections
    dsql.wire.session_s = -1.0
    with pytest.raises(Exception, match="closed"):
        db.run(add, 2)  # every session is too old
    dsql.wire.session_s = 3600.0
    assert db.run(add, 3) == 3
    assert dsql.wire.counts().connections > before
    assert numbers() == [1, 3]
