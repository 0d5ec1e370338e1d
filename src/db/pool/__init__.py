"""The pool: how a connection comes to be, how long it is kept, and when it is given back.

``pools`` has the pool classes, which replace at checkout what is too old or idled too long, and the choice among them;
``keeping`` says what is too old. ``engines`` builds an engine from settings: dialect, pool and events;
``engine_options`` is what an application says of it beyond them. ``connector`` opens a connection, with tries while
there is time, and ``connect_arguments`` says what the driver is told: host, login, TLS, time-outs; ``mysql_arguments``
says that to MySQL's. ``certificates`` looks at the files that it names, and ``environment_variables`` keeps libpq's own
out of it. ``crowding`` remembers that the database was full; ``reader_route`` sends a reader's connections to the
writer while the reader is away, and ``replica_lag`` asks how far behind it is; ``switchover`` bounds how long a
connection serves that may lead to a server which has been replaced.

It must not know which engines this process has, nor transactions, tenants or handlers. A connect argument goes into
``connect_arguments``; what is waited for at a connect, into ``connector``.
"""
