"""Transactions: one unit of work, from BEGIN to what became of COMMIT.

``begin`` (with ``session``), ``read`` (with ``fetch``), ``write`` and ``run`` are what users call; ``unit_of_work`` is
what those have in common. ``blocks`` and ``callables`` refuse blocks, functions and connections of the wrong kind.
``tenant_scope`` says whose work it is, and ``logins`` whether no policy binds the login; ``prologue_sql`` is the text
that tells the server tenant, limits and search path for a transaction, and ``prologue`` fills it in when a flight
leaves; ``driver`` hands it to the connection below, or sends it at once where that has no flights. ``side_by_side``
runs the statements of a ``write`` up to where they leave together. ``open_units`` knows which units the context has
open, ``remedies`` what to write instead of what SQLAlchemy has refused, and ``refusals`` what the engine cannot do.

It must not know pools' insides, events of AWS, or what the statements are for. What all units promise (tenant, limits,
outcome) goes into ``unit_of_work``; one thing more that the server is told, into ``prologue_sql``; what one kind of
unit promises, or how often it is tried, into its own module.
"""
