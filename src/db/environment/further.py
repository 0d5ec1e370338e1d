"""The holder of a database beside the default one: what it is called, and where its settings come from.

Loaded where a function has such a database.
"""

from __future__ import annotations

import dataclasses
import os
import weakref
from typing import TYPE_CHECKING, Any

from db.errors import ConfigurationError
from db.settings import PREFIX
from db.settings.prefixes import checked_name, read

from .process import Holder, holders

if TYPE_CHECKING:
    from db.settings import Settings

    from .runtime import Runtime


class FurtherHolder(Holder):
    """Holds the runtime of a database by the variables under ``prefix``, or by ``settings``.

    What it keeps open and nobody is at work on is closed with it.
    """

    def __init__(self, *, name: str, prefix: str = PREFIX, settings: Settings | None = None) -> None:
        self.called = self.database = checked_name(name)
        self.prefix = prefix
        self._settings = settings
        super().__init__()
        # Of its attributes, as the finalizer must not keep itself from being called. At the end of the process there is
        # nobody to be polite to, as there is not for the default one.
        weakref.finalize(self, _let_go, vars(self)).atexit = False

    def found(self) -> tuple[Settings, list[str]]:
        if self._settings is not None:
            return self._own(self._settings), []
        others = [holder.prefix for holder in holders()]
        return read(os.environ, self.prefix, database=self.called, others=others)

    def _own(self, settings: Settings) -> Settings:
        if settings.warm != "off":
            raise ConfigurationError(["DB_WARM is for the default database: Init connects that one alone"])
        return dataclasses.replace(settings, database=self.database, prefix=self.prefix)


def _let_go(of: dict[str, Any]) -> None:
    runtime: Runtime | None = of["_runtime"]
    if runtime is not None:
        runtime.let_go()
