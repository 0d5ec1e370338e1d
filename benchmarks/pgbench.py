"""pgbench with the statements that `db` sends for a transaction of a tenant, in the same flights.

https://www.postgresql.org/docs/18/pgbench.html
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .releases import CannotMeasureError, run

if TYPE_CHECKING:
    from .place import Place

# What goes up in one flight goes in one pipeline here. Each name after a colon is a parameter, as it is with `db`:
# both speak the extended protocol without prepared statements, as a pooler that shares connections asks for.
SCRIPT = r"""
\sleep :pause us
\startpipeline
BEGIN;
SELECT set_config('statement_timeout', :statement, true), set_config('lock_timeout', :lock, true),
    set_config('idle_in_transaction_session_timeout', :statement, true), set_config('transaction_timeout', '0', true),
    set_config('transaction_timeout', :transaction, true), set_config('app.tenant_id', :client_id, true),
    set_config('application_name', :name, true);
UPDATE tenant_notes SET hits=(tenant_notes.hits + :one) WHERE tenant_notes.id = :note;
\endpipeline
COMMIT;
"""
VARIABLES = {
    "statement": "19350ms",
    "lock": "10000ms",
    "transaction": "19600ms",
    "name": "db:5f1d0c8e-7a43-4f5e-9d55-2d1b6a0c9e11",
    "one": "1",
    "note": "1",
}
# The columns of a log line: https://www.postgresql.org/docs/18/pgbench.html#PGBENCH-TRANSACTION-LOG
LATENCY, SECONDS, MICROSECONDS = 2, 4, 5
CONNECT_S = 1
"""What it is given beyond the time that is measured: its clock runs from before the clients connect."""


@dataclass(frozen=True)
class Taken:
    """The microseconds of every transaction of all clients together, pauses apart, and how long that went on."""

    latencies_us: list[int]
    seconds: float


@dataclass(frozen=True)
class PgBench:
    """Of an installation, against ``place`` at ``port``, on one core."""

    program: Path
    place: Place
    port: int
    core: int

    def taken(self, *, clients: int, seconds: int, pause_us: int) -> Taken:
        """Raises CannotMeasureError where the clients could not even connect in time."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            script, log = folder / "script.sql", folder / "log"
            script.write_text(SCRIPT)
            given = [f"--define={variable}={value}" for variable, value in {**VARIABLES, "pause": pause_us}.items()]
            counts = [
                f"--client={clients}",
                f"--time={seconds + CONNECT_S}",
                "--jobs=1",
                "--protocol=extended",
                "--no-vacuum",
            ]
            server = [f"--host={self.place.host}", f"--port={self.port}", f"--username={self.place.user}"]
            command = ["taskset", "--cpu-list", str(self.core), str(self.program), *counts, *given, *server]
            written = [f"--file={script}", "--log", f"--log-prefix={log}"]
            run([*command, *written, self.place.name], {"PGPASSWORD": self.place.password, "PGSSLMODE": "disable"})
            lines = [line.split() for path in folder.glob("log.*") for line in path.read_text().splitlines()]
        if not lines:
            raise CannotMeasureError(f"pgbench had no transaction in {seconds + CONNECT_S} s")
        latencies = [int(line[LATENCY]) - pause_us for line in lines]
        ends = [int(line[SECONDS]) * 1_000_000 + int(line[MICROSECONDS]) for line in lines]
        began = min(end - latency - pause_us for end, latency in zip(ends, latencies, strict=True))
        return Taken(latencies, (max(ends) - began) / 1e6)
