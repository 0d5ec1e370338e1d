"""Transactions: one unit of work, from BEGIN to what became of COMMIT.

``begin`` (with ``session``), ``read`` (with ``fetch``) and ``run`` are what users call; ``unit_of_work`` is what those
have in common. ``tenant_scope`` says whose work it is; ``prologue`` makes what a unit tells the server ahead of its
first statement, and ``prologue_sql`` the text of that; ``sending`` hands it to the driver, or sends it at once where
the driver has no flights. ``open_units`` knows which units the context has open.

It must not know pools' insides, events of AWS, or what the statements are for. What all units promise (tenant, limits,
outcome) goes into ``unit_of_work`` and ``prologue``; what one kind promises, into its own module.
"""
