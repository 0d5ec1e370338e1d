"""The servers that an application talks to: the real programs, private to this process, on free ports of loopback.

``postgres`` is the database server, ``postgres_install`` finds its programs and the account that runs them, and
``postgres_settings`` has its defaults; ``mariadb`` is another one, with ``mariadb_settings``. ``replica`` makes two
servers a cluster, ``pgbouncer`` and ``odyssey`` stand in front of one, ``aws`` is Secrets Manager, ``dsql`` makes one
look like Aurora DSQL. ``doors`` are the ways to a server, by what stands before it. ``database`` is an empty database
with two logins for one test. ``debian`` fetches programs that PyPI does not have, and ``debian_release`` those of a
release newer than the machine's; ``cache`` is the folder where they are kept, ``guardian`` ends a server whose process
was killed, ``ports`` and ``passwords`` are what all of them need.

It must not know Lambda, functions or the settings of ``db``, but for what those call a door, and DSQL's, which no URL
can say: what it hands out is host, port, login and URL. Another server, or another failure of one (a promotion, a full
server, a slow answer of AWS's), goes here; a failure of the network between them goes into ``network``.
"""
