"""Orders by tenant over HTTP: FastAPI, on Lambda by Mangum, on a laptop or in a container under uvicorn."""

import os
from typing import Annotated

import db
import db.asgi
from db import aio
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field
from sqlalchemy import BigInteger, Column, Connection, Identity, MetaData, Table, Text, exc, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

TENANT_CLAIM = os.environ.get("TENANT_CLAIM") or "tenant_id"

metadata = MetaData()
orders = Table(
    "orders",
    metadata,
    Column("tenant_id", Text, primary_key=True, server_default=text("current_setting('app.tenant_id')")),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("customer", Text, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
)
shown = (orders.c.id, orders.c.customer, orders.c.total_minor)


class NewOrder(BaseModel):
    customer: str = Field(min_length=1, max_length=100)
    total_minor: int = Field(ge=0)


class Order(NewOrder):
    id: int


class Page(BaseModel):
    orders: list[Order]


def tenant_of(scope) -> str | None:
    """The caller's tenant, from the token that API Gateway's authorizer has verified. Nothing else may name one."""
    claims = db.asgi.request_context(scope).get("authorizer", {}).get("jwt", {}).get("claims", {})
    # No authorizer stands before uvicorn on a laptop. The template sets no such variable.
    return claims.get(TENANT_CLAIM) or os.environ.get("LOCAL_TENANT")


def known_tenant(request: Request) -> None:
    if tenant_of(request.scope) is None:
        raise HTTPException(403, "the token names no tenant")


# scope="function": COMMIT comes before the answer, and an order that could not be kept is no 201.
Tx = Annotated[AsyncConnection, Depends(db.asgi.transaction, scope="function")]
Conn = Annotated[Connection, Depends(db.asgi.plain_reading)]
routes = APIRouter(prefix="/orders", dependencies=[Depends(known_tenant)])


@routes.post("", status_code=201)
async def create_order(order: NewOrder, tx: Tx) -> Order:
    row = (await tx.execute(insert(orders).values(order.model_dump()).returning(*shown))).one()
    return Order(**row._asdict())


@routes.get("")
def list_orders(conn: Conn, after: int = 0, limit: Annotated[int, Field(ge=1, le=100)] = 20) -> Page:
    page = select(*shown).where(orders.c.id > after).order_by(orders.c.id).limit(limit)
    return Page(orders=[Order(**row._asdict()) for row in conn.execute(page)])


app = FastAPI(title="Orders", lifespan=db.asgi.lifespan)
app.include_router(routes)
app.add_middleware(
    db.asgi.Middleware,
    tenant=tenant_of,
    request_timeout_s=10,  # under uvicorn; in Lambda it is the function's own
)
for failure in (db.DbError, exc.DBAPIError, exc.TimeoutError):
    app.add_exception_handler(failure, db.asgi.problem)


@app.get("/health")
async def health() -> dict[str, str]:
    async with aio.read() as conn:
        await conn.execute(text("SELECT 1"))
    return {"status": "ok"}


# What the template names. Where Mangum is not installed, as behind the Lambda Web Adapter, there is none.
handler = db.asgi.lambda_handler(app, lifespan="off") if "AWS_LWA_PORT" not in os.environ else None
