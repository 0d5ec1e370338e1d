"""Migrations: invoked by the pipeline after a deploy, and by the tests."""

from pathlib import Path

import db

VERSIONS = Path(__file__).parent / "migrations" / "versions"


@db.invocation
def handler(event, context):
    from db import migrations  # here, so that Alembic loads with the first event and not with the module

    done = migrations.upgrade(VERSIONS)
    return {"before": done.before, "after": done.after}
