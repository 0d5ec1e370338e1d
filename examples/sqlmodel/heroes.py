"""SQLModel's models, in a session that is a transaction of db's."""

import json

import db
import sqlmodel
from sqlmodel import Field, SQLModel, select


class Hero(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str


@db.invocation
def handler(event, context):
    with db.session(class_=sqlmodel.Session) as session:
        session.add(Hero(name=event["name"]))
        names = session.exec(select(Hero.name).order_by(Hero.name)).all()
    return {"statusCode": 201, "body": json.dumps(names)}
