"""The application: on a database of the kit, called by Lambda's events, in the real runtime, and under uvicorn."""

import asyncio
import json
import socket
import threading
from pathlib import Path

import db
import httpx
import migrate
import orders_api
import pytest
import uvicorn
from devkit.lambda_runtime.environment import LambdaEnvironment
from sqlalchemy import make_url

HERE = Path(__file__).parent


def event(name):
    return json.loads((HERE / "events" / f"{name}.json").read_text())


@pytest.fixture
def shop(database, monkeypatch):
    monkeypatch.setenv("APP_ROLE", database.app)  # whom the migration lets in
    db.configure(db.Settings(url=make_url(database.url("owner"))))
    migrate.handler({}, None)
    db.configure(db.Settings(url=make_url(database.url())))
    yield database
    db.dispose()


def test_a_tenant_sees_its_own_orders(shop, lambda_context):
    def answer(name):
        answered = orders_api.handler(event(name), lambda_context(remaining_s=20))
        return answered["statusCode"], json.loads(answered["body"])

    order = {"id": 1, "customer": "c-1001", "total_minor": 3490}
    assert answer("create") == (201, order)
    assert answer("list") == (200, {"orders": [order]})
    assert answer("list-foreign-tenant") == (200, {"orders": []})
    assert answer("create-invalid")[0] == 422
    assert answer("list-no-tenant")[0] == 403
    assert answer("health") == (200, {"status": "ok"})


def test_three_invocations_connect_once(shop):
    with LambdaEnvironment(
        handler="orders_api.handler", code=[HERE / "src"], environment={"DB_URL": shop.url()}, timeout_s=60
    ) as environment:
        answers = [environment.invoke(event("create")) for _ in range(3)]
    assert [answer.payload["statusCode"] for answer in answers] == [201, 201, 201]
    assert len([line for line in environment.logs if '"connection_event":"connect"' in line]) == 1


def test_uvicorn_serves_it_too(shop, monkeypatch):
    monkeypatch.setenv("LOCAL_TENANT", "acme")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(orders_api.app, log_config=None))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30) as client:
            created = client.post("/orders", json={"customer": "c-1", "total_minor": 5})
            listed = client.get("/orders")
        server.should_exit = True
        thread.join()
    assert (created.status_code, listed.json()) == (201, {"orders": [created.json()]})
    assert db.status()["totals"]["connects"] == db.status()["totals"]["closes"]
