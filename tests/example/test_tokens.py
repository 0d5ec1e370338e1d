"""The tokens of database.yaml's user pool, and what the orders ask of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devkit.app.template import Template
from handlers.orders.api import TENANT_CLAIM

DATABASE = Template(Path(__file__).parents[2] / "database.yaml")


def test_an_access_token_carries_the_tenant_that_the_api_asks_for() -> None:
    """A user without a tenant gets no token."""
    names: dict[str, Any] = {}
    exec(DATABASE.resources["TenantOfTokens"]["Properties"]["Code"]["ZipFile"], names)  # noqa: S102 - the template's own
    event = {"request": {"userAttributes": {"custom:tenant_id": "acme"}}, "response": {}}
    details = names["handler"](event, None)["response"]["claimsAndScopeOverrideDetails"]
    assert details == {"accessTokenGeneration": {"claimsToAddOrOverride": {TENANT_CLAIM: "acme"}}}
    with pytest.raises(KeyError):
        names["handler"]({"request": {"userAttributes": {}}, "response": {}}, None)
