"""How a private MariaDB server is made and set, where nobody says otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_SETTINGS = {
    "skip-name-resolve": "ON",
    "log-warnings": "0",
    "performance-schema": "OFF",
    # The data need not outlive the machine, so nothing waits for the disk. They do outlive the server: what was
    # reported as committed is in a file, though not on the disk.
    "innodb-flush-method": "nosync",
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-fast-shutdown": "2",
    # Small files, which are filled when they are made.
    "innodb-data-file-path": "ibdata1:4M:autoextend",
    "innodb-temp-data-file-path": "ibtmp1:4M:autoextend",
    "innodb-log-file-size": "4M",
    "innodb-buffer-pool-size": "16M",
}

# The kit's own connections go over loopback, and need no encryption there.
CLIENT_SETTINGS: dict[str, Any] = {"ssl_disabled": True, "charset": "utf8mb4"}

# As `mariadb-install-db` has them, less the texts of HELP and the schema `sys`.
_SYSTEM_TABLES = (
    "mysql_system_tables.sql",
    "mysql_performance_tables.sql",
    "mysql_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
)


def bootstrap_sql(share: Path, *, superuser: str, password: str) -> str:
    """What makes the system's tables from the scripts in ``share``, and one superuser, who comes from anywhere.

    No other login, no anonymous one, and no database for tests: what ``mariadb-install-db`` does with
    ``--auth-root-authentication-method=normal --skip-test-db``, and a password.
    """
    scripts = [(share / name).read_text(encoding="utf-8") for name in _SYSTEM_TABLES]
    return "\n".join(
        (
            "CREATE DATABASE mysql;",
            "USE mysql;",
            "SET @auth_root_socket = NULL;",
            *scripts,
            "DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';",
            "DELETE FROM mysql.proxies_priv;",
            "FLUSH PRIVILEGES;",
            f"CREATE USER '{superuser}'@'%' IDENTIFIED BY '{password}';",
            f"GRANT ALL ON *.* TO '{superuser}'@'%' WITH GRANT OPTION;",
            "",
        )
    )
