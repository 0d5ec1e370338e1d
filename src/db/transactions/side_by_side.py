"""Work that stops in the middle and goes on later, in greenlets: several statements are begun before the first ends.

Loaded where it is needed, as it brings greenlet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]  # it has no types
from sqlalchemy.util import await_

if TYPE_CHECKING:
    from collections.abc import Callable


class Begun(greenlet):  # type: ignore[misc]  # it has no types
    """``work``, which runs in a greenlet of its own until it calls ``pause``, and from there on at each ``resume``."""

    def __init__(self, work: Callable[[], object]) -> None:
        here = getcurrent()
        super().__init__(work, here)
        self.gr_context = here.gr_context
        # As SQLAlchemy's own, under an event loop: what is waited for in it, whoever resumes it awaits.
        self.__sqlalchemy_greenlet_provider__ = getattr(here, "__sqlalchemy_greenlet_provider__", False)

    def resume(self) -> None:
        """Let it run until it pauses, or has ended. Raises what it raises."""
        awaited: Any = self.switch()
        while not self.dead and awaited is not None:
            try:
                value = await_(awaited)
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                awaited = self.throw(error)
            else:
                awaited = self.switch(value)


def pause() -> None:
    """Stop here until the ``Begun`` that runs is resumed."""
    parent = getcurrent().parent
    assert parent is not None  # noqa: S101 - for the type checker
    parent.switch(None)
