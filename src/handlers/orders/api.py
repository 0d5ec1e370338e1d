"""The orders API (API Gateway HTTP API, payload version 2): create, get, list, change status."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

import db
from handlers.problems import Problem, problem_for

from . import queries
from .ids import uuid7
from .model import Invalid, TooLarge, parse_id, parse_json, parse_key, parse_order, parse_page, parse_status_change

if TYPE_CHECKING:
    import uuid

    from sqlalchemy import Connection, Row

    from .model import NewOrder, StatusChange

# Issuers name it as they like.
TENANT_CLAIM = os.environ.get("TENANT_CLAIM") or "tenant_id"
# With it a request may be sent again until it is answered: it makes one order, and is answered alike each time.
# https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
IDEMPOTENCY_KEY = "idempotency-key"
REPLAYED = "Idempotency-Replayed"

logger = Logger()
app = APIGatewayHttpResolver()


@app.post("/orders")
def create_order() -> Response[str]:
    body, key = _body(), app.current_event.headers.get(IDEMPOTENCY_KEY)
    order = parse_order(body, make_id=uuid7())
    headers = {}
    if key is None:
        shown = db.run(_store, order, tenant=_tenant())
    else:
        work = db.once(f"create order {parse_key(key)}", tenant=_tenant(), payload=body)
        shown = work.run(_store, order)
        headers = {REPLAYED: "true"} if work.replayed else {}
    return _json(201, shown, headers | {"Location": f"/orders/{shown['id']}"})


@app.get("/orders/<order_id>")
def get_order(order_id: str) -> Response[str]:
    wanted = parse_id(order_id)
    with db.read(tenant=_tenant(), snapshot=True) as conn:
        row = conn.execute(queries.select_order(wanted)).one_or_none()
        if row is None:
            raise Problem(404, "there is no such order")
        lines = [line._asdict() for line in conn.execute(queries.select_lines(wanted))]
    return _json(200, _shown(row) | {"lines": lines})


@app.get("/orders")
def list_orders() -> Response[str]:
    page = parse_page(app.current_event.query_string_parameters)
    with db.read(tenant=_tenant()) as conn:
        rows = conn.execute(queries.select_page(page)).all()
    more = len(rows) > page.limit
    shown = [_shown(row) for row in rows[: page.limit]]
    return _json(200, {"orders": shown, "next": shown[-1]["id"] if more else None})


@app.patch("/orders/<order_id>")
def change_status(order_id: str) -> Response[str]:
    wanted, change = parse_id(order_id), parse_status_change(_body())
    return _json(200, _shown(db.run(_change, wanted, change, tenant=_tenant())))


def _store(tx: Connection, order: NewOrder) -> dict[str, Any]:
    row = tx.execute(queries.insert_order(order)).one()
    tx.execute(queries.insert_lines(order))
    return _shown(row)


def _change(tx: Connection, wanted: uuid.UUID, change: StatusChange) -> Row[Any]:
    row = tx.execute(queries.update_status(wanted, change)).one_or_none()
    if row is not None:
        return row
    now = tx.execute(queries.select_order(wanted)).one_or_none()
    if now is None:
        raise Problem(404, "there is no such order")
    if now.version != change.version:
        raise Problem(409, f"the order is at version {now.version}, not {change.version}: read it again")
    raise Problem(409, f"an order that is {now.status} cannot become {change.status}")


def _tenant() -> str:
    """The caller's tenant, from the token that the authorizer verified. Nothing else in a request may name one."""
    authorizer = app.current_event.request_context.authorizer
    claims = (authorizer.jwt_claim if authorizer is not None else None) or {}
    tenant = claims.get(TENANT_CLAIM)
    if not isinstance(tenant, str) or not tenant:
        raise Problem(403, "the token names no tenant")
    return tenant


def _body() -> Any:
    body: str | bytes | None = app.current_event.body
    if body and app.current_event.is_base64_encoded:
        try:
            body = base64.b64decode(body, validate=True)
        except ValueError:  # binascii.Error is one; what is not ASCII is another
            raise Invalid("the body is not base64") from None
    return parse_json(body)


def _shown(row: Row[Any]) -> dict[str, Any]:
    return row._asdict() | {"id": str(row.id), "created_at": row.created_at.isoformat()}


def _json(status: int, value: object, headers: dict[str, str] | None = None) -> Response[str]:
    return Response(status, content_type="application/json", headers=dict(headers or {}), body=json.dumps(value))


@app.exception_handler(Invalid)  # type: ignore[untyped-decorator]  # so in Powertools
def _invalid(error: Invalid) -> Response[str]:
    return Problem(413 if isinstance(error, TooLarge) else 400, *error.reasons).response()


@app.exception_handler(db.KeyReusedError)  # type: ignore[untyped-decorator]  # so in Powertools
def _other_order(_error: db.KeyReusedError) -> Response[str]:
    return Problem(422, f"another order was sent with this {IDEMPOTENCY_KEY}").response()


@app.exception_handler(Exception)  # type: ignore[untyped-decorator]  # so in Powertools
def _failed(error: Exception) -> Response[str]:
    return problem_for(error).response()


@app.not_found
def _no_route(_error: Exception) -> Response[str]:
    return Problem(404, "there is no such route").response()


@logger.inject_lambda_context
@db.invocation
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return app.resolve(event, context)
