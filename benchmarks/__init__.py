"""What a transaction and a cold start cost with `db`, and with what people use today: measured side by side.

``make bench`` runs all of it; docs/reference/benchmarks.md says what is measured and how. To add

- a peer: a class in ``peers/``, and its name in ``peers/__init__.py``;
- a work: a member of ``works.Work``, and an entry in the ``works()`` of every peer that can do it;
- a section: a module in ``sections/`` with ``measure(plan)``, its name in ``sections/__init__.py``, its targets in
  ``targets.py``.

Nothing here is shipped.
"""
