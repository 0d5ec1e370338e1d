"""The laptop and CI side: real servers, AWS on localhost, the Lambda runtime, and whole applications run on them.

Rooms, from the ground up; each imports from those before it:

- ``network``: a proxy between client and server, which counts what passes, reads it and breaks it
- ``servers``: PostgreSQL, its replica, PgBouncer, Secrets Manager, started and ended here
- ``query_plans``: what PostgreSQL plans for a test's statements; beside the next, and neither knows the other
- ``lambda_runtime``: one execution environment of Lambda, without a container or in one
- ``app``: a SAM application on these: its template, its events, ``demo`` and ``sam-local``
- ``fleet``: many environments at once, and what they go through; beside ``app``, and neither knows the other
- ``plan``: whether what a template's functions may hold fits into what their database takes
- ``simulate``: what thousands of environments would do to a database, by events on a clock that is none
- ``deploys``: an application in a real account, and its database: what is asked there, deployed, and deleted
- ``rehearsal``: an application deployed, changed, rolled back and deleted, with moto in the place of an account

On top, where users come in: ``plugin`` has pytest's fixtures, ``cli`` the commands, ``settings_table`` and
``engines_table`` what the commands ``settings`` and ``engines`` print for docs/reference. Below all, ``extras`` says
which packages a part takes. All of it may use ``db``, and none of it is shipped: neither ``db`` nor ``handlers``
imports it.
"""

__version__ = "0.2.0"
