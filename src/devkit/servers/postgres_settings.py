"""How an embedded PostgreSQL server is made and set, where nobody says otherwise."""

from __future__ import annotations

import os

from .ports import HOST

# The builtin locale provider sorts alike on every machine.
INITDB = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-sync",
    "--no-instructions",
)

DEFAULT_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "io_method": "sync",  # no I/O workers to start
    # The data need not outlive the machine, so nothing waits for the disk. It does outlive the server: without
    # synchronous_commit, which stays on, restart("immediate") would lose what was reported as committed.
    "fsync": "off",
    "full_page_writes": "off",
    # A new database writes 7 MB of log: do not fill its segments with zeros first.
    "wal_init_zero": "off",
    "wal_recycle": "off",
}

# What a release is the first to know, by its number. An older one refuses it.
SINCE = {"--locale-provider=builtin": 17, "--builtin-locale=C.UTF-8": 17, "io_method": 18}

# For servers whose passwords protect nothing: hashed once in place of 4096 times, which is most of the processor's time
# that a connect costs its client. The messages stay the same. What measures a connect measures it without.
CHEAP_PASSWORDS = {"scram_iterations": "1"}

# None of the caller's variables: PGDATA, PGPORT, the language and the like change what the binaries do and say.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
