"""The network between a client and a server: a TCP proxy that one can count with, look into, and break.

``wire`` is the proxy: it counts connections and round trips and has the calls that break things; ``link`` is one
connection through it; ``faults`` is what can happen to a connection. ``statements`` is a wire that reads PostgreSQL's
protocol, and ``mysql_statements`` one that reads MySQL's; ``pinning`` says which of the statements would pin an RDS
Proxy session, ``mysql_pinning`` the same of MySQL's, and ``rds_proxy`` is a wire that refuses in its words.
``strict_pooler`` gives each transaction another connection to the server, as a pooler may. ``resuming`` is a wire
before a server that has paused; ``words`` is how a server puts what it says at the end of a session. ``dsql`` is a wire
that makes a server behave as Aurora DSQL is said to, and ``dsql_refusals`` is what that refuses of a statement.

It must not know who talks: neither which server is behind it nor which driver or layer before it. A new way to lose,
delay or mangle bytes goes into ``faults`` and gets its call in ``wire``; a new thing to read from the protocol goes
into ``statements``; a new rule of AWS's about proxies into ``pinning``, and what they say into ``rds_proxy``; what DSQL
turns out to refuse, into ``dsql_refusals``.
"""
