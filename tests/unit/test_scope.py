"""The tenant and the prologue of a transaction."""

from typing import Any

import pytest

from db.errors import TenantError
from db.scope import Scope, scope, tenant_for


@pytest.mark.parametrize("tenant", ["", "   ", "a\x00b", "x" * 256, "\ud800", 7, None, b"acme"])
def test_a_name_that_postgresql_cannot_hold_is_refused(tenant: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(TenantError), scope(tenant=tenant):
        pass


def test_the_named_tenant_wins_over_the_bound_one() -> None:
    """The nearest word counts, and the binding ends with its block."""
    with scope(tenant="bound"):
        assert tenant_for(None, required=True) == "bound"
        assert tenant_for("named", required=True) == "named"
        with scope(tenant="inner"):
            assert tenant_for(None, required=True) == "inner"
        assert tenant_for(None, required=True) == "bound"
    assert tenant_for(None, required=False) is None


def test_a_missing_tenant_is_an_error_where_one_is_required() -> None:
    """DB_TENANT_REQUIRED fails closed."""
    with pytest.raises(TenantError, match="DB_TENANT_REQUIRED"):
        tenant_for(None, required=True)


def test_the_prologue_is_one_statement_and_all_values_are_parameters() -> None:
    """A tenant full of SQL is a value like any other."""
    nasty = "x', true); DROP TABLE orders; --"
    statement, parameters = Scope(
        tenant=nasty, statement_timeout_s=1.5, transaction_timeout_s=2.0, search_path="shop"
    ).prologue()
    assert statement == (
        "SELECT set_config('statement_timeout', %s, true), "
        "set_config('idle_in_transaction_session_timeout', %s, true), "
        "set_config('transaction_timeout', %s, true), "
        "set_config('transaction_timeout', %s, true), "
        "set_config('app.tenant_id', %s, true), "
        "set_config('search_path', %s, true)"
    )
    assert parameters == ("1500ms", "1500ms", "0", "2000ms", nasty, "shop")


def test_a_limit_is_never_zero() -> None:
    """Zero would mean no limit at all to PostgreSQL."""
    assert Scope(tenant=None, statement_timeout_s=0.0001).prologue()[1] == ("1ms", "1ms")
