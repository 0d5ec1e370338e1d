"""A SAM application, whichever it is, run on this machine: ``demo`` in the Lambda runtime, ``sam_local`` in Docker,
``serve`` for callers over HTTP, with ``http_api`` in API Gateway's place; ``checked`` asks ``db check`` about it.

``project`` is the application: the folder, and what it says of itself. ``template`` reads the SAM template,
``intrinsics`` the functions of CloudFormation in it, ``rules`` its Rules, and ``transform`` makes SAM's resources
CloudFormation's; ``pyproject`` reads the table ``[tool.devkit]``, ``catalogue`` the events. ``expectations`` compares
an answer with what a case expects, and ``errors`` has the error for all that cannot be used. ``stack`` is what the
application talks to, made for its roles, with ``cloudformation`` to answer custom resources. ``sam_cli`` calls the
``sam`` program, ``artifacts`` looks at what it has built, and ``runtime`` is the Python that it is for.

It must not know a particular application: no role, table, folder or function by name, but for the defaults that
``pyproject`` lists. What a template may say and is not understood yet goes into ``template`` or ``intrinsics``; what it
cannot say becomes a key in ``pyproject``; another way to run the cases is a module beside ``demo``.
"""
