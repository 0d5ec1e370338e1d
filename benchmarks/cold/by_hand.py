"""Read one row with psycopg and boto3, and nothing else.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/retrieving-secrets-python-sdk.html
https://www.psycopg.org/psycopg3/docs/basic/usage.html
"""

from __future__ import annotations

import json
import os
from typing import Any

import boto3
import psycopg

client = boto3.client("secretsmanager")
secret = json.loads(client.get_secret_value(SecretId=os.environ["DB_SECRET_ID"])["SecretString"])
connection = psycopg.connect(
    host=secret["host"],
    port=secret["port"],
    dbname=secret["dbname"],
    user=secret["username"],
    password=secret["password"],
    autocommit=True,
)


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    ((hits,),) = connection.execute("SELECT hits FROM notes WHERE id = %s", (event["id"],)).fetchall()
    return {"hits": hits}
