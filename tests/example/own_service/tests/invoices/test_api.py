import json
from pathlib import Path

import db
import pytest
from db import migrations
from handlers.invoices import api
from handlers.migrate import VERSIONS
from sqlalchemy import make_url

EVENTS = Path(__file__).parents[2] / 'events' / 'invoices'

@pytest.fixture
def migrated(database, monkeypatch):
    monkeypatch.setenv('APP_ROLE', database.app)
    monkeypatch.setenv('REPORT_ROLE', database.owner)
    db.configure(db.Settings(url=make_url(database.url('owner'))))
    migrations.upgrade(VERSIONS)
    db.configure(db.Settings(url=make_url(database.url('app'))))
    yield
    db.dispose()

@pytest.mark.parametrize('name, status', [('create', 201), ('create-invalid', 400), ('create-no-tenant', 403)])
def test_an_event_is_answered(name, status, migrated, lambda_context):
    event = json.loads((EVENTS / f'{name}.json').read_text())
    assert api.handler(event, lambda_context())['statusCode'] == status
