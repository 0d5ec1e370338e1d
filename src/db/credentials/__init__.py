"""Credentials: who may enter the database, and where that is asked for.

``source`` says what credentials are, and what every source of them can do; ``secrets_manager`` reads a secret through
its cache, ``get_secret`` is the request itself, without boto3 where that is possible; ``rds_iam`` signs a token for a
login; ``sigv4`` is AWS's signature; ``entry`` says in which order a refused login looks for other credentials.

It must not know pools, engines or SQL, and never prints a password. Another place for secrets is a class beside
``secrets_manager``; another shape of a secret, a line in its parser; what is done after a refusal, ``entry``.
"""
