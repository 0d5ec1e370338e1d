"""``simulate``: what a design does at a size that no machine here has, up to 10,000 execution environments for an hour.

A seeded simulation by discrete events, on SimPy: the same seed gives the same result. ``scenario`` has what is to be
simulated, as values, and ``scenarios`` those that have a name. ``load`` is who calls, ``platform`` is Lambda with its
scaling rule, ``environment`` the layer in one execution environment, ``pooler`` what stands before the database, and
``server`` that with its connections and cores; ``secret`` is its password. ``refusals`` names how an attempt can fail,
and ``measures`` counts. The ``world`` is what they share, and ``run`` puts them together.

``validate`` runs the fleet of real processes and the simulation side by side. ``questions`` are those that people have
on pools and poolers, answered by simulations for docs/run/sizing.md, and ``plot`` draws them. ``options`` is what can
be said on the command line, and ``command`` does it.

What the layer decides is asked of ``db`` itself, with the simulated clock. It must not know how ``db`` decides: a rule
that is copied here would go on as it was. A delay, a limit or a reason to give a connection back is changed in ``db``;
what a decision reads from the world, it is given there as a parameter.
"""
