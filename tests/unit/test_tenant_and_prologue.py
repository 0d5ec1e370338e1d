"""The tenant and the prologue of a transaction."""

from typing import Any

import pytest

from db.errors import TenantError
from db.timing.deadline import Limits
from db.transactions.prologue_sql import PrologueSql
from db.transactions.tenant_scope import scope, tenant_for


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


NASTY = "x', true); DROP TABLE orders; --"


def test_the_prologue_is_one_statement_and_all_values_are_parameters() -> None:
    """A tenant full of SQL is a value like any other."""
    limits = Limits(statement_s=1.5, lock_s=1.0, transaction_s=2.0)
    statement, values = PrologueSql(tenant=NASTY, search_path="shop").statement(limits)
    assert statement == (
        b"SELECT num_nulls(set_config('statement_timeout', $1, true), "
        b"set_config('lock_timeout', $2, true), "
        b"set_config('idle_in_transaction_session_timeout', $3, true), "
        b"set_config('transaction_timeout', '0', true), "
        b"set_config('transaction_timeout', $4, true), "
        b"set_config('app.tenant_id', $5, true), "
        b"set_config('search_path', $6, true))"
    )
    assert values == [b"1500ms", b"1000ms", b"1500ms", b"2000ms", NASTY.encode(), b"shop"]


def test_through_a_function_it_holds_no_name_of_a_setting() -> None:
    """RDS Proxy pins a session for what it finds in a statement's text."""
    scope = PrologueSql(tenant="acme", through_function=True)
    statement, values = scope.statement(Limits(statement_s=1, lock_s=0.5), read_only=True)
    assert statement == b"SELECT db_begin_unit($1, $2, $3, $4, $5, $6, $7, $8)"
    assert values == [b"1000ms", b"500ms", b"1000ms", None, b"acme", None, None, b"on"]


@pytest.mark.parametrize(
    ("search_path", "function"),
    [
        (None, "db_begin_unit"),
        ("Shop", '"shop".db_begin_unit'),
        ('"Sh""op", public', '"Sh""op".db_begin_unit'),
        ('"$user", shop', '"shop".db_begin_unit'),
        ("$user", "db_begin_unit"),
    ],
)
def test_the_function_is_called_in_the_first_schema_that_is_named(search_path: str | None, function: str) -> None:
    """``$user`` is another schema to the role that migrates."""
    statement, _ = PrologueSql(search_path=search_path, through_function=True).statement(
        Limits(statement_s=1, lock_s=1)
    )
    assert statement.decode().startswith(f"SELECT {function}($1")


def test_a_limit_is_never_zero() -> None:
    """Zero would mean no limit at all to PostgreSQL."""
    assert PrologueSql().statement(Limits(statement_s=0.0001, lock_s=0.0))[1][:3] == [b"1ms"] * 3
