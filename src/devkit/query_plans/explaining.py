"""Asks the server for plans, as if every table were large: nothing that it knows of the test's few rows counts.

All of it in one transaction, which is rolled back. No row count can be claimed on an empty table: the planner takes the
number of pages from the file itself, and ``pg_class`` only says how many rows there are on each. So the question is not
what the planner would choose, but what it has to choose from: sequential scans are off, and so are joins that read
their tables whole; a table that is still read whole has no index for the statement. Where there is a choice among
indexes, rows are dear: what reads fewer of them wins.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq, sql

from db.telemetry.fingerprint import fingerprint
from db.transactions.prologue_sql import TENANT_SETTING

from . import catalogue
from .placeholders import Numbered
from .watching import Sent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OLDEST_SERVER = 160000  # GENERIC_PLAN
# Of what can have a plan, by its first word.
_PLANNED = {"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE", "("}

_ASSUMING = """
SET LOCAL enable_seqscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL cpu_tuple_cost = 1;
SET LOCAL cpu_index_tuple_cost = 0.5;
SET LOCAL cpu_operator_cost = 0.25;
SET LOCAL lock_timeout = '2s';
UPDATE pg_class SET reltuples = -1, relpages = 0, relallvisible = 0
WHERE relkind IN ('r', 'm') AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace);
DELETE FROM pg_statistic USING pg_class c
WHERE c.oid = starelid
AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
"""


@dataclass(frozen=True)
class Plan:
    """The server's plan for what was sent: the outermost node, as EXPLAIN gives it in JSON."""

    sent: Sent
    root: dict[str, Any]


@dataclass(frozen=True)
class Unexplained:
    """What was sent and has no plan to look at, and why."""

    sent: Sent
    reason: str


@contextlib.contextmanager
def large_tables(connection: psycopg.Connection[Any]) -> Iterator[catalogue.Catalogue]:
    """Plan as if all tables were large within the block. The catalogue of the database. Takes a superuser."""
    if connection.info.server_version < OLDEST_SERVER:
        raise RuntimeError(f"plans need PostgreSQL 16, and this is {connection.info.server_version // 10000}")
    with contextlib.ExitStack() as stack:
        connection.execute("BEGIN")
        stack.callback(connection.execute, "ROLLBACK")
        read = catalogue.read(connection)
        connection.execute(_ASSUMING)
        yield read


class Planner:
    """Explains as the role that sent a statement, with its tenant or else one that another was sent with."""

    def __init__(self, connection: psycopg.Connection[Any], known: catalogue.Catalogue, sent: Sequence[Sent]) -> None:
        self._connection = connection
        self._types = _type_names(connection, {oid for one in sent for oid in one.types if oid})
        self._tenant = next((one.tenant for one in sent if one.tenant), _any_tenant(known.tenant_types))

    def explain(self, sent: Sent) -> Plan | Unexplained:
        """The plan of it; Unexplained where it has none, and where the server refuses to make one."""
        cannot = sent.cannot or _no_query(sent)
        if sent.statement is None or cannot:
            return Unexplained(sent, cannot)
        self._connection.execute("SAVEPOINT statement")
        try:
            self._enter(sent)
            text = sent.statement.text([self._types.get(oid) for oid in sent.types])
            return Plan(sent, _planned(self._connection.pgconn, text))
        except psycopg.Error as error:
            return Unexplained(sent, error.diag.message_primary or str(error))
        finally:
            self._connection.execute("ROLLBACK TO SAVEPOINT statement")

    def all_rows(self, table: catalogue.Table, role: str) -> Plan | Unexplained:
        """How ``role`` reads a table of which it asks for nothing: by what its policies ask for, and that alone."""
        query = f"SELECT FROM {sql.Identifier(table.schema, table.name).as_string(self._connection)}"
        return self.explain(Sent(fingerprint(query), Numbered((query,), ()), (), role, tenant=None, search_path=None))

    def _enter(self, sent: Sent) -> None:
        execute = self._connection.execute
        execute("SELECT set_config(%s, %s, true)", [TENANT_SETTING, sent.tenant or self._tenant])
        if sent.search_path is not None:
            execute("SELECT set_config('search_path', %s, true)", [sent.search_path])
        execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(sent.role)))


def _no_query(sent: Sent) -> str:
    word = sent.fingerprint.text.partition(" ")[0].upper()
    return "" if word in _PLANNED or word.startswith("(") else f"{word or 'an empty statement'} has no plan"


def _type_names(connection: psycopg.Connection[Any], oids: set[int]) -> dict[int, str]:
    query = "SELECT t, format_type(t, NULL) FROM unnest(%s::oid[]) AS t"
    return dict(connection.execute(query, [list(oids)]).fetchall()) if oids else {}


def _any_tenant(types: frozenset[str]) -> str:
    """One that the planner can read, which looks at the policy's value for its estimates."""
    if "uuid" in types:
        return "00000000-0000-0000-0000-000000000000"
    return "0" if types & {"smallint", "integer", "bigint", "numeric"} else "tenant"


def _planned(pgconn: pq.abc.PGconn, statement: str) -> dict[str, Any]:
    explaining = f"EXPLAIN (GENERIC_PLAN, VERBOSE, COSTS OFF, FORMAT JSON) {statement}".encode()
    # Parsed alone first, which refuses several statements in one: EXPLAIN would take the first and run the others. And
    # it cannot be executed like that, which would bind values to a plan that has to be without.
    _check(pgconn.prepare(b"", explaining))
    (explained,) = json.loads(_check(pgconn.exec_(explaining)).get_value(0, 0) or b"[]")
    root: dict[str, Any] = explained["Plan"]
    return root


def _check(result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)
    return result
