"""What PostgreSQL plans for the statements that a test sent, looked through for what is slow on large tables.

``watching`` notes each statement that passes through SQLAlchemy, and ``placeholders`` makes of a driver's placeholders
those of the server. ``explaining`` asks the server for the plans, and ``catalogue`` for the indexes, foreign keys and
policies behind them. ``rules`` say what is wrong with a plan: pure, each a function of values. ``plans`` is the face:
what the fixture ``plans`` gives to a test.

It must not know Lambda, functions or an application: a test, its database, and what was sent there. Another fault of a
plan goes into ``rules``; another driver, into ``placeholders``.
"""
