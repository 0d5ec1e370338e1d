"""What would break, before it does: ``check`` looks at settings, packages, the way in, the server, and tenants.

``finding`` is what is found, and how it is shown. ``configured`` looks at what can be said without a connection;
``entering`` at what the connect shows, TLS above all; ``server`` asks PostgreSQL, in one statement, and ``limits`` and
``objects`` are the rules over what it says; ``checking`` opens the connection and puts all of it together. Another
thing to look at is one more rule, which says something in each case: that all is well, that it does not apply, or what
to do. No handler loads any of it.
"""

from .checking import check
from .finding import Finding, Report

__all__ = ["Finding", "Report", "check"]
