"""The order in which credentials are tried while one connection opens."""

from __future__ import annotations

from db.credentials.login import Login
from db.credentials.source import Credentials


def of(password: str, username: str = "app") -> Credentials:
    return Credentials(username=username, password=password, fetched_at=0.0)


class Scripted:
    """A source that has what it is told to have, and notes what it was asked."""

    def __init__(self, current: Credentials, fresh: Credentials, staged: Credentials | None = None) -> None:
        self.cached, self.fresh, self.next = current, fresh, staged
        self.asked: list[str] = []

    def current(self) -> Credentials:
        self.asked.append("current")
        return self.cached

    def refresh(self, rejected: Credentials) -> Credentials:  # noqa: ARG002 - the protocol's
        self.asked.append("refresh")
        return self.fresh

    def staged(self) -> Credentials | None:
        self.asked.append("staged")
        return self.next

    def part(self) -> None:
        raise AssertionError

    def forget(self) -> None:
        """Not asked here."""


def test_a_refused_password_is_replaced_by_a_newer_one() -> None:
    """One look past the caches, and none at what is staged."""
    source = Scripted(of("old"), of("new"))
    login = Login(source)
    assert login.credentials() == of("old")
    assert login.renew()
    assert login.credentials() == of("new")
    assert source.asked == ["current", "refresh"]


def test_between_alter_role_and_the_end_of_a_rotation_what_is_staged_is_tried() -> None:
    """AWSCURRENT is still what was refused."""
    source = Scripted(of("old"), of("old"), of("staged"))
    login = Login(source)
    login.credentials()
    assert login.renew()
    assert login.credentials() == of("staged")


def test_a_clone_is_another_user_with_the_same_password() -> None:
    """So the pair decides what is new."""
    login = Login(Scripted(of("pw"), of("pw", "app_clone")))
    login.credentials()
    assert login.renew()
    assert login.credentials() == of("pw", "app_clone")


def test_there_is_nothing_to_try_twice_before_time_has_passed() -> None:
    """Then both again: a replica, or a proxy, may have learnt of the new password meanwhile."""
    source = Scripted(of("old"), of("old"), of("staged"))
    login = Login(source)
    login.credentials()
    assert [login.renew(), login.renew()] == [True, False]
    login.waited()
    assert login.credentials() == of("staged")
    assert login.renew()
    assert login.credentials() == of("old")


def test_a_url_has_nothing_newer() -> None:
    """It says all."""
    login = Login(None)
    assert login.credentials() is None
    assert not login.renew()
