"""Which source of credentials the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.settings import Settings

    from .source import Source


def source_for(settings: Settings, host: str | None, *, clock: Callable[[], float]) -> Source | None:
    """The source that ``settings`` name, for the endpoint ``host``; None where a URL carries its own credentials."""
    if settings.source == "secret" and settings.secret_id:
        from .secrets_manager import SecretsManagerSource

        return SecretsManagerSource(
            settings.secret_id,
            ttl_s=settings.secret_ttl_s,
            clock=clock,
            username=settings.user,
            kind=settings.engine_kind,
        )
    if settings.source == "iam" and host:
        from .rds_iam import RdsIamSource

        return RdsIamSource(settings, host, clock=clock)
    if settings.source == "dsql" and host:
        from .dsql_iam import DsqlSource

        return DsqlSource(settings, host, clock=clock)
    return None
