"""MariaDB from 10.11 on: MySQL's kin, which limits every statement and not only those that read."""

from __future__ import annotations

import dataclasses

from .mysql import CAN
from .mysql import KIND as MYSQL

KIND = dataclasses.replace(
    MYSQL,
    name="mariadb",
    title="MariaDB",
    system="mariadb",
    dialect="mariadb_dialect",
    can={**CAN, "statement limit": "`max_statement_time`, in the transaction's opening"},
)
