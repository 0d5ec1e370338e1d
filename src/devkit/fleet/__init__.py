"""Many execution environments at once under what Lambda, the network, the secrets and the database do to them.

``python -m devkit fleet`` (``command``) runs the ``scenarios`` and says what each came to; what was found is at
https://serverless-data-access.github.io/serverless-data-access/run/survival/

A ``run`` sets a ``fleet`` of environments on a ``site``, the database that its functions (``functions``) write to, or
on a ``mariadb_site``; ``environment`` is one of Lambda's, ``fork_server`` makes light ones by the hundred (its other
half is ``fork_server_process``). ``ledger`` compares what callers know with what the table holds, ``held_connections``
watches the server, ``once_storm`` sends duplicates; a ``finding`` is what came of it all, ``report`` and ``plot`` show
it.

It must not know an application: its functions are its own, one written with ``db`` and one without. A new misfortune
is a file in ``scenarios``, and in its ``by_door`` too where a proxy tells it in words of its own; a new figure for all
of them goes into ``ledger`` or ``finding``. A failure that one test can show alone needs no fleet: it is made in
``network`` or ``servers``.
"""
