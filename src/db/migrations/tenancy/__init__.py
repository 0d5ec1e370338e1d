"""Whether tenants are apart: ``audit`` compares what the database's catalogue says with what keeps their rows apart.

``catalogue`` asks the server, in one statement, and knows no rule; ``clauses`` reads the text of a policy; ``tables``,
``beside`` (views, functions, sequences, schemas) and ``roles`` are the rules, each over what the catalogue has said;
``audit`` puts them together, and ``at_upgrade`` calls it before a migration commits. A new kind of hole is one more
rule there, and one more row in its test. No handler loads any of it.
"""

from .at_upgrade import before_commit
from .audit import IN_VAIN, audit
from .finding import Finding

__all__ = ["IN_VAIN", "Finding", "audit", "before_commit"]
