"""What an application says of its engines beyond the settings: options of ``create_engine``, and listeners to each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from db.errors import DOCUMENTATION, ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Engine

# Said by settings, and by nothing else: two places would be one too many.
_BY_SETTINGS = {
    "connect_args": "DB_CONNECT_ARGS",
    "default_schema_name": "DB_SCHEMA",
    "echo": "DB_ECHO",
    "echo_pool": "DB_ECHO_POOL",
    "hide_parameters": "DB_HIDE_PARAMETERS",
    "max_overflow": "DB_MAX_OVERFLOW",
    "pool_pre_ping": "DB_POOL_PRE_PING",
    "pool_recycle": "DB_POOL_RECYCLE_S",
    "pool_size": "DB_POOL_SIZE",
    "pool_timeout": "DB_POOL_TIMEOUT_S",
    "poolclass": "DB_POOL",
    "url": "DB_SECRET_ID, or DB_URL",
    "use_native_hstore": "DB_NATIVE_HSTORE",
}
# How connections are opened, kept and told of is what the layer is for.
LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
_OWN = {
    *("async_creator", "creator", "dialect", "module", "paramstyle"),
    *("plugins", "pool", "pool_events", "pool_reset_on_return"),
}


# What SQLAlchemy would meet with the first value, or the first statement, that needs it.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "execution_options": (lambda value: isinstance(value, Mapping), "a dict"),
    "json_deserializer": (callable, "a function of the text"),
    "json_serializer": (callable, "a function of the value"),
    "query_cache_size": (lambda value: isinstance(value, int) and value >= 0, "a whole number from 0 on"),
}


@dataclass(frozen=True, eq=False, repr=False, match_args=False)
class EngineOptions:
    """``options`` are further arguments to ``create_engine``; ``on_engine`` is told of each engine that is made."""

    options: Mapping[str, Any] = field(default_factory=dict)
    on_engine: Callable[[Engine], object] | None = None

    def __post_init__(self) -> None:
        if problems := _problems(self.options):
            raise ConfigurationError(problems)

    @property
    def isolation(self) -> str | None:
        """The level of every transaction that names none; None is the server's."""
        level: str | None = self.options.get("isolation_level")
        return level

    def arguments(self) -> dict[str, Any]:
        """What ``create_engine`` is given of it.

        The level as an execution option, which SQLAlchemy says anew at each checkout: a unit of work that has its own
        leaves none on the connection.
        """
        given = dict(self.options)
        if level := given.pop("isolation_level", None):
            given["execution_options"] = {**given.get("execution_options", {}), "isolation_level": level}
        return given


def level_meant(given: object) -> str | None:
    """The isolation level that ``given`` is another spelling of."""
    words = given.upper().replace("_", " ").replace("-", " ").split() if isinstance(given, str) else []
    return next((level for level in LEVELS if level.split() == words or level.replace(" ", "") in words), None)


def wrong_option(said: str) -> str:
    """A problem of an option, with where it was given and where to read on."""
    return f"db.configure(engine_options=…): {said} ({DOCUMENTATION}start/from-sqlalchemy/#engine-and-connections)"


def _problems(options: Mapping[str, Any]) -> list[str]:
    by_settings = [f"{name} is said by {_BY_SETTINGS[name]}" for name in sorted(options) if name in _BY_SETTINGS]
    own = [f"{name} is the layer's own" for name in sorted(options) if name in _OWN]
    kinds = [
        f"{name} is {kind}, not {type(value).__name__}"
        for name, value in options.items()
        if name in _KINDS and not (_KINDS[name][0](value) or value is None)
        for kind in [_KINDS[name][1]]
    ]
    level = options.get("isolation_level")
    if level is not None and level not in LEVELS:
        meant = level_meant(level)
        kinds.append(
            f"isolation_level is one of {', '.join(LEVELS)}, not {level!r}{f': write {meant!r}' if meant else ''}"
        )
    further = options.get("execution_options")
    if isinstance(further, Mapping) and "isolation_level" in further:
        kinds.append("isolation_level is an option of its own, not in execution_options")
    return [wrong_option(said) for said in (*by_settings, *own, *kinds)]
