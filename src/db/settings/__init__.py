"""The settings: one table of name, type, default, floor, unit and sentence. Read once, then sealed.

``table`` is that table, the class ``Settings``, and its reading from the environment: a setting is added there.
``kinds`` says how a setting is read from text and what it may be when it is given in code. ``checks`` finds values that
are too low or contradict each other; ``places``, hosts and ports that cannot be one. Three load only where they
are needed: ``urls`` reads DB_URL, ``names`` knows what people write instead of a setting's name, and ``prefixes`` reads
the settings of a further database, whose names begin otherwise.

Everything that names a setting is checked against the table: the documented one is printed from it (``python -m devkit
settings``), ``template.yaml`` is compared with it. It must not know what a setting is for further up, and opens neither
secrets nor files; see ``credentials``.

``engines``, within, has for each database engine one object that says what it can, and how that is said to it.
"""

from .kinds import FLAGS, PREFIX
from .table import (
    AsyncDriver,
    Auth,
    Echo,
    Metrics,
    PoolKind,
    Proxy,
    Settings,
    SqlComments,
    SqliteTenants,
    SslMode,
    Trace,
    fields,
    single,
    unread,
)

__all__ = [
    "FLAGS",
    "PREFIX",
    "AsyncDriver",
    "Auth",
    "Echo",
    "Metrics",
    "PoolKind",
    "Proxy",
    "Settings",
    "SqlComments",
    "SqliteTenants",
    "SslMode",
    "Trace",
    "fields",
    "single",
    "unread",
]
