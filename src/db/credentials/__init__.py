"""Credentials: who may enter the database, and where that is asked for.

``source`` says what credentials are, and what every source of them can do; ``secrets_manager`` reads a secret through a
cache, ``secret_shapes`` takes its text apart, ``get_secret`` is the request itself, without boto3 where that is
possible; ``rds_iam`` makes the token of a login, with its lifetime; ``sigv4`` is AWS's signature; ``choice`` takes the
one that the settings name; ``login`` says which credentials are tried next after a refusal.

It must not know pools, engines or SQL, and never prints a password. Another place for secrets is a class beside
``secrets_manager``; another shape of a secret, a line in ``secret_shapes``.
"""
