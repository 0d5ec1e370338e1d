"""Results in binary, on a cursor of the driver's: which values they have in common with text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import db

if TYPE_CHECKING:
    from devkit.plugin import Database, MakeWire

    from .conftest import Use

# The page on the wire has these lists. NaN and the sign of zero are told apart, as all are compared as they print.
SAME = """
true::bool; (-32768)::int2; (-2147483648)::int4; 9223372036854775807::int8; 4000000000::oid; 1.50::numeric;
'NaN'::numeric; 'Infinity'::numeric; 0.1::float8; 1e-320::float8; 'NaN'::float8; '-Infinity'::float8; '-0'::float8;
'NaN'::float4; 'é'::text; 'abc'::varchar(3); 'a'::char(4); 'n'::name; 'c'::"char";
'e2ad85ab-2b2f-4a41-8a3c-9f3d1d1f0e57'::uuid; '\\x00ff'::bytea; '{"a": 1}'::json; '{"a": 1}'::jsonb;
'2026-11-28'::date; '12:00:00.123456'::time; '12:00:00+02'::timetz; '2026-11-28 12:00:00.5'::timestamp;
'2026-11-28 12:00:00.5+05:30'::timestamptz; '1 year 2 mons 3 days 04:05:06.7'::interval; '-1 day +1 hour'::interval;
'10.0.0.1/8'::inet; '::1'::inet; '10.0.0.0/8'::cidr; '[1,5)'::int4range; 'empty'::int8range; '[1.5,2)'::numrange;
'[2026-01-01,)'::daterange; '[2026-01-01,)'::tsrange; '[2026-01-01,)'::tstzrange; '{[1,5)}'::int4multirange;
'{1,NULL,2}'::int4[]; '{{1,2},{3,4}}'::int4[]; '[0:1]={1,2}'::int4[]; '{a,"b c",NULL}'::text[]; '{0.1,NaN}'::float8[];
'{e2ad85ab-2b2f-4a41-8a3c-9f3d1d1f0e57}'::uuid[]; array['\\x00'::bytea]; array['{"a": 1}'::jsonb];
'{1.50}'::numeric[]; NULL::uuid
"""
OTHERS = """
0.1::float4; 'sad'::mood; '{sad}'::mood[]; '(1,x)'::pair; row(1, 'a'); '08:00:2b:01:02:03'::macaddr; 1.5::money;
B'101'::bit(3); B'1'::varbit; '(1,2)'::point; '(1,1),(0,0)'::box; 'a b'::tsvector; 'a'::tsquery; '0/1'::pg_lsn;
'1'::xid8; '(0,1)'::tid; 'pg_class'::regclass; '$.a'::jsonpath
"""
REFUSED = """
'infinity'::date; '0044-03-15 BC'::date; '24:00'::time; 'infinity'::timestamp; '0044-03-15 BC'::timestamp;
'-infinity'::timestamptz; '0001-01-01 BC'::timestamptz
"""


def listed(expressions: str) -> list[str]:
    return [" ".join(one.split()) for one in expressions.split(";")]


def read(cursor: Any, expression: str) -> str:
    """The value as it prints, or the error's kind."""
    try:
        return repr(cursor.execute(f"SELECT {expression}").fetchone())
    except psycopg.Error as error:
        return type(error).__name__


def test_values_in_binary_are_those_in_text_but_for_the_documented(use: Use) -> None:
    """For each type that psycopg reads in binary, and for what it does not know."""
    use(role="owner")
    with db.begin() as tx:
        tx.exec_driver_sql("CREATE TYPE mood AS ENUM ('sad', 'ok')")
        tx.exec_driver_sql("CREATE TYPE pair AS (a int, b text)")
    with db.read() as conn:
        pool: Any = conn.connection
        text, binary = pool.cursor(), pool.cursor(binary=True)
        assert [one for one in listed(SAME) if read(text, one) != read(binary, one)] == []
        assert [one for one in listed(OTHERS) if read(text, one) == read(binary, one)] == []
        assert {read(cursor, one) for one in listed(REFUSED) for cursor in (text, binary)} == {"DataError"}


@pytest.mark.parametrize("unit", [db.begin, db.read])
def test_a_binary_cursor_takes_no_trip_more(unit: Any, use: Use, database: Database, wire: MakeWire) -> None:
    """Tenant and limits travel with its statement."""
    counted = wire()
    use(url=database.through(counted).url("app"))
    trips = []
    for binary in (False, True):
        with unit(tenant="acme") as conn:
            conn.exec_driver_sql("SELECT 1")
        before = counted.counts()
        with unit(tenant="acme") as conn:
            cursor: Any = conn.connection.cursor(binary=binary)
            found = cursor.execute("SELECT current_setting('app.tenant_id'), 0.1::float8").fetchone()
            assert found == ("acme", 0.1)
            assert cursor.pgresult.fformat(0) == binary
        trips.append((counted.counts() - before).trips)
    assert trips[0] == trips[1]
