"""A function of somebody else's, which imports db."""

import sqlalchemy

import db


def lambda_handler(_event: object, _context: object) -> dict[str, str]:
    return {"db": db.__file__, "sqlalchemy": sqlalchemy.__version__}
