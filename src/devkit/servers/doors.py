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
    """Straight to the server, through a pooler in transaction mode, or through what refuses in RDS Proxy's words.

    ``PGBOUNCER`` is this machine's, ``PGBOUNCER_NEWEST`` that of Debian's next release. ``STRICT`` is the kit's own,
    which gives each transaction another connection than the last.
    """

    DIRECT = "direct"
    PGBOUNCER = "pgbouncer"
    RDS_PROXY = "rds-proxy"
    PGBOUNCER_NEWEST = "pgbouncer-newest"
    STRICT = "strict"

    @property
    def proxy(self) -> Literal["none", "pgbouncer", "rds-proxy"]:
        """What ``DB_PROXY`` calls it."""
        match self:
            case Door.DIRECT:
                return "none"
            case Door.RDS_PROXY:
                return "rds-proxy"
            case _:
                return "pgbouncer"

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

        ``upstream`` (default: the server itself) is where what stands there finds it. ``default_pool_size`` is the
        poolers', and ``settings`` are PgBouncer's; at another door they are without effect.
        """
        behind: Endpoint = upstream or server
        match self:
            case Door.DIRECT:
                yield behind
            case Door.PGBOUNCER | Door.PGBOUNCER_NEWEST:
                from .pgbouncer import NEWEST, PgBouncer

                with PgBouncer(
                    server,
                    upstream=behind,
                    default_pool_size=default_pool_size,
                    settings={**POOLER_SETTINGS, **(settings or {})},
                    release=NEWEST if self is Door.PGBOUNCER_NEWEST else None,
                ) as pooler:
                    yield pooler
            case Door.STRICT:
                from devkit.network.strict_pooler import StrictPooler

                with StrictPooler(behind.host, behind.port, backends=default_pool_size) as strict:
                    yield strict
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


# Those that tests and fleets go through where they name none. The others differ from PgBouncer's in few ways.
USUAL = (Door.DIRECT, Door.PGBOUNCER, Door.RDS_PROXY)
