"""The execution environment: the life of this process, from its first invocation to SIGTERM.

``runtime`` is one configuration at work: settings, credentials and engines. ``process`` holds one for each database,
built on first use, replaced by ``configure``, closed by ``dispose``, forgotten in a forked child; ``further`` holds
that of a database beside the default one.
``handler_decorator`` is ``@db.invocation``: what is done before a call of the handler, and what is settled after it,
before a freeze. ``event_loop`` is the one loop of async handlers; ``sigterm`` is the end, of the environment or of a
call that ran into its timeout; ``snapstart`` keeps secrets and sockets out of a snapshot; ``warm`` connects during
Init; ``package_versions`` names, when ``db`` is imported, a package that is too old or was built for another Python,
and ``lean_imports`` is how they are imported at less. ``prometheus`` tells a scrape what the pools of every database of
this process hold and have counted. ``commands`` is around each ``python -m …``.

It must not know tenants, transactions or statements. What happens once a process, before or after each invocation, at a
fork, a snapshot or the end goes here.
"""
