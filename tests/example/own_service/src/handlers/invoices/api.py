import json
import uuid

import db
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from handlers.problems import Problem, problem_for
from sqlalchemy import insert, select, update

from .model import parse
from .tables import invoices

logger = Logger()
app = APIGatewayHttpResolver()
SHOWN = [column for column in invoices.c if column.name != 'tenant_id']


@app.post('/invoices')
def create():
    values = parse(app.current_event.body, id=uuid.uuid4())
    with db.begin(tenant=tenant()) as tx:
        row = tx.execute(insert(invoices).values(values).returning(*SHOWN)).one()
    return answer(201, shown(row))


@app.get('/invoices')
def list_all():
    with db.read(tenant=tenant()) as conn:
        rows = conn.execute(select(*SHOWN).order_by(invoices.c.due, invoices.c.id).limit(100)).all()
    return answer(200, {'invoices': [shown(row) for row in rows]})


@app.get('/invoices/<invoice>')
def get(invoice):
    with db.read(tenant=tenant()) as conn:
        row = conn.execute(select(*SHOWN).where(invoices.c.id == uuid.UUID(invoice))).one_or_none()
    return found(row)


@app.patch('/invoices/<invoice>')
def pay(invoice):
    paid = update(invoices).where(invoices.c.id == uuid.UUID(invoice)).values(paid=True).returning(*SHOWN)
    with db.begin(tenant=tenant()) as tx:
        row = tx.execute(paid).one_or_none()
    return found(row)


def tenant():
    """The caller's tenant, from the token that the API's authorizer has verified."""
    authorizer = app.current_event.request_context.authorizer
    claims = (authorizer.jwt_claim if authorizer else None) or {}
    if not claims.get('tenant_id'):
        raise Problem(403, 'the token names no tenant')
    return claims['tenant_id']


def found(row):
    if row is None:
        raise Problem(404, 'there is no such invoice')
    return answer(200, shown(row))


def shown(row):
    return row._asdict() | {'id': str(row.id), 'due': row.due.isoformat()}


def answer(status, value):
    return Response(status, content_type='application/json', body=json.dumps(value))


@app.exception_handler(ValueError)
def invalid(error):
    return Problem(400, str(error)).response()


@app.exception_handler(Exception)
def failed(error):
    return problem_for(error).response()


@logger.inject_lambda_context
@db.invocation
def handler(event, context):
    return app.resolve(event, context)
