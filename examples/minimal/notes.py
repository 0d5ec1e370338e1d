"""Keeps a note. One file, one table, one transaction."""

import json

import db
from sqlalchemy import text

ADD = text("INSERT INTO notes (body) VALUES (:body)")
COUNT = text("SELECT count(*) FROM notes")


@db.invocation
def handler(event, context):
    with db.begin() as tx:
        tx.execute(ADD, {"body": event["body"]})
        count = tx.execute(COUNT).scalar_one()
    return {"statusCode": 201, "body": json.dumps({"notes": count})}
