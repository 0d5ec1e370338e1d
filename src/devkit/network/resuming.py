"""A wire before a server that has paused: who comes is kept waiting until it has resumed, as Aurora does from 0 ACU.

AWS says no more than that a connection is established when the instance has resumed, some 15 s later:
https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2-auto-pause.html
People have seen those who waited lose their connection, and be refused for want of an entry in pg_hba.conf:
https://github.com/cyrilgdn/terraform-provider-postgresql/issues/501, and 540 beside it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal

from .wire import Wire
from .words import fatal

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Sequence

POLL_S = 0.01

Parting = Literal["closed", "no entry"]

_NO_ENTRY = fatal(b"28000", b'no pg_hba.conf entry for host "10.0.0.7", user "app", database "orders", SSL encryption')

_ASKS_FOR_TLS = (8).to_bytes(4) + (80877103).to_bytes(4)  # SSLRequest


class ResumingWire(Wire):
    """A ``Wire`` before a server that is paused, and resumes ``resume_s`` after the first connection to it.

    Until then, connections are accepted and nothing is answered; what their clients have sent is answered afterwards.
    ``partings`` (default: none) are what the first ones get instead, in their order: ``"closed"`` is an end without a
    word, ``"no entry"`` the refusal of a pg_hba.conf that names nobody.
    """

    def __init__(
        self, upstream_host: str, upstream_port: int, *, resume_s: float, partings: Sequence[Parting] = ()
    ) -> None:
        super().__init__(upstream_host, upstream_port)
        self._resume_s = resume_s
        self._partings = list(partings)
        self._resumed: asyncio.Future[None] | None = None
        self.knocks = 0
        """Connections that have come so far, whether or not they were served."""

    def pause(self, *, within_s: float = 0.0) -> None:
        """Pause: as a server does, when nobody is connected. Raises RuntimeError where somebody is ``within_s``."""
        self._do(self._pause, within_s)

    async def _pause(self, within_s: float) -> None:
        give_up_at = time.monotonic() + within_s
        while self._links and time.monotonic() < give_up_at:
            await asyncio.sleep(POLL_S)
        if self._links:
            raise RuntimeError(f"{len(self._links)} connections are open, and keep the server awake")
        self._resumed = None

    async def _accept(self, client: StreamReader, to_client: StreamWriter) -> None:
        self.knocks += 1
        parting = self._partings.pop(0) if self._partings else None
        try:
            await self._awake()
            if parting == "no entry":
                if await client.read(len(_ASKS_FOR_TLS)) == _ASKS_FOR_TLS:
                    to_client.write(b"N")  # none, so that it can read what comes
                    await client.read(1)
                to_client.write(_NO_ENTRY)
        except BaseException:  # the wire ends
            to_client.transport.abort()
            raise
        if parting is None:
            await super()._accept(client, to_client)
        else:
            to_client.close()

    async def _awake(self) -> None:
        if self._resumed is None:
            loop = asyncio.get_running_loop()
            self._resumed = loop.create_future()
            loop.call_later(self._resume_s, self._resumed.set_result, None)
        await asyncio.shield(self._resumed)
