"""SQLAlchemy's declarative models, each tenant's rows to itself."""

import json

import db
from sqlalchemy import ForeignKey, Identity, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload


class Base(DeclarativeBase):
    pass


class Shelf(Base):
    __tablename__ = "shelves"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    # What db.session(tenant=…) says, so that no code has to.
    tenant_id: Mapped[str] = mapped_column(server_default=text("current_setting('app.tenant_id')"))
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship()


class Book(Base):
    __tablename__ = "books"

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(server_default=text("current_setting('app.tenant_id')"))
    shelf_id: Mapped[int] = mapped_column(ForeignKey(Shelf.id))
    title: Mapped[str]


@db.invocation
def handler(event, context):
    # A real one takes the tenant from what an authorizer has verified.
    with db.session(tenant=event["tenant"]) as session:
        session.add(Shelf(name=event["shelf"], books=[Book(title=title) for title in event["books"]]))
        session.flush()
        shelves = session.scalars(select(Shelf).options(selectinload(Shelf.books)).order_by(Shelf.name))
        found = {shelf.name: [book.title for book in shelf.books] for shelf in shelves}
    return {"statusCode": 201, "body": json.dumps(found)}
