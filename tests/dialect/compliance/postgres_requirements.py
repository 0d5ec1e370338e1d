"""What SQLAlchemy's suite may ask of PostgreSQL.

The suite leaves closed whatever some database lacks. All of that is opened here, but for what PostgreSQL has otherwise.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy.testing.exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

exclusions: Any = sqlalchemy.testing.exclusions  # not typed

OTHERWISE_IN_POSTGRES = {
    "async_dialect",  # said below
    "computed_columns_default_persisted",  # virtual is the default since 18
    "dbapi_lastrowid",
    "emulated_lastrowid",
    "emulated_lastrowid_even_with_sequences",
    "fetch_percent",
    "foreign_keys_reflect_as_index",
    "indexes_check_column_order",
    "materialized_views_reflect_pk",
    "nvarchar_types",
    "reflect_indexes_with_ascdesc_as_expression",
    "repeated_remote_col_foreign_keys",
    "unique_index_reflect_as_unique_constraints",
}


class PostgresRequirements(SuiteRequirements):
    """What follows the class opens the rest."""

    @property
    def async_dialect(self) -> Any:
        return exclusions.only_if(lambda config: config.db.dialect.is_async)


def is_closed(rule: Any) -> bool:
    """Whether a requirement is met by no database."""
    skips = getattr(rule, "skips", ())
    return any(isinstance(skip, exclusions.BooleanPredicate) and skip.value for skip in skips)


def opened(_: SuiteRequirements) -> Any:
    return exclusions.open()


for name, requirement in vars(SuiteRequirements).items():
    if isinstance(requirement, property) and name not in OTHERWISE_IN_POSTGRES:
        assert requirement.fget is not None
        if is_closed(requirement.fget(SuiteRequirements())):
            setattr(PostgresRequirements, name, property(opened))
