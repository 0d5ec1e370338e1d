"""Credentials: who may enter the database, and where that is asked for.

``source`` says what credentials are, and what every source of them can do; ``secrets_manager`` reads a secret through a
cache, ``secret_shapes`` takes its text apart, ``get_secret`` is the request itself, without boto3 where that is
possible; ``tokens`` makes those that are signed here, and keeps them while they live: for RDS by ``rds_iam``, for
Aurora DSQL by ``dsql_iam``; ``sigv4`` is AWS's signature; ``choice`` takes the source that the settings name; ``login``
says which credentials are tried next after a refusal.

It must not know pools, engines or SQL, and never prints a password. Another place for secrets is a class beside
``secrets_manager``; another shape of a secret, a line in ``secret_shapes``.
"""
