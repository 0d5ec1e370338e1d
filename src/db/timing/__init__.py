"""Time: which invocation runs, how long anything may still take, and how to wait.

``invocation`` holds the request that this process serves (the decorator ``@db.invocation`` is in ``environment``);
``deadline`` turns Lambda's remaining time into limits for a statement, a lock, a transaction, a wait; ``backoff`` draws
the delay before another try; ``waiting`` sleeps and waits in a thread or under an event loop alike; ``timebox`` cuts
off a connect, which knows no time limit of its own.

It decides and waits, and must not know what is waited for: no SQL, no connection, no secret. A new limit, or another
share of the remaining time, goes into ``deadline``; a fact that lasts as long as one call of the handler, into
``invocation``; whatever would say ``time.sleep`` or ``asyncio.sleep`` elsewhere, into ``waiting``.
"""
