"""The doors of a server: what may stand between it and its clients, each opened by the same call.

Whatever breaks is to be told alike, whichever door a client came in by, so tests and fleets go through all of them.
"""

from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from devkit.network.statements import PostgresWire

    from .ports import Endpoint
    from .postgres import Postgres

# PgBouncer leaves a server alone for 15 s, its default, after one refusal: longer than most functions may take.
POOLER_SETTINGS = {"server_login_retry": "1"}


class Door(StrEnum):
    """Straight to the server, through PgBouncer in transaction mode, or through what refuses in RDS Proxy's words."""

    DIRECT = "direct"
    PGBOUNCER = "pgbouncer"
    RDS_PROXY = "rds-proxy"

    @property
    def proxy(self) -> Literal["none", "pgbouncer", "rds-proxy"]:
        """What ``DB_PROXY`` calls it."""
        match self:
            case Door.DIRECT:
                return "none"
            case Door.PGBOUNCER:
                return "pgbouncer"
            case Door.RDS_PROXY:
                return "rds-proxy"

    @contextlib.contextmanager
    def opened(
        self,
        server: Postgres,
        *,
        upstream: Endpoint | None = None,
        default_pool_size: int = 20,
        settings: Mapping[str, str] | None = None,
    ) -> Iterator[Endpoint]:
        """Where clients of ``server`` are to knock, for the length of a ``with`` block.

        ``upstream`` (default: the server itself) is where what stands there finds it. ``default_pool_size`` and
        ``settings`` are PgBouncer's, and without effect at another door.
        """
        behind: Endpoint = upstream or server
        match self:
            case Door.DIRECT:
                yield behind
            case Door.PGBOUNCER:
                from .pgbouncer import PgBouncer

                told = {**POOLER_SETTINGS, **(settings or {})}
                with PgBouncer(server, upstream=behind, default_pool_size=default_pool_size, settings=told) as pooler:
                    yield pooler
            case Door.RDS_PROXY:
                from devkit.network.rds_proxy import RdsProxyWire

                with RdsProxyWire(behind.host, behind.port) as relay:
                    yield relay

    @contextlib.contextmanager
    def on_a_wire(
        self,
        server: Postgres,
        *,
        upstream: Endpoint | None = None,
        default_pool_size: int = 20,
        settings: Mapping[str, str] | None = None,
    ) -> Iterator[PostgresWire]:
        """Likewise, with a wire between the clients and what stands there, to count and break what passes."""
        from devkit.network.rds_proxy import RdsProxyWire
        from devkit.network.statements import PostgresWire

        with self.opened(server, upstream=upstream, default_pool_size=default_pool_size, settings=settings) as endpoint:
            if isinstance(endpoint, RdsProxyWire):
                yield endpoint  # it is one
            else:
                with PostgresWire(endpoint.host, endpoint.port) as wire:
                    yield wire
