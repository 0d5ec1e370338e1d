"""Each way in which tenants stop being apart is found, and a schema that keeps them apart has no finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, make_url

from db.migrations.operations import create_once_table, create_prologue_function, enable_tenant_rls, grant
from db.migrations.tenancy import Finding, audit
from devkit.servers.database import create_database, drop_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from devkit.plugin import Database, MakeWire
    from devkit.servers.postgres import Postgres

TENANT = sa.text("current_setting('app.tenant_id')")


@pytest.fixture(scope="module")
def place(postgres: Postgres) -> Iterator[Database]:
    """A database with a schema as the documents show it: two tables of tenants, one of which refers to the other."""
    created = create_database(postgres)
    engine = create_engine(created.url("owner"), poolclass=sa.NullPool)
    with engine.begin() as conn:
        op = Operations(MigrationContext.configure(conn))
        for name, *others in (
            ("notes", sa.Column("body", sa.Text)),
            ("tags", sa.Column("note_id", sa.BigInteger, nullable=False)),
        ):
            op.create_table(
                name,
                sa.Column("tenant_id", sa.Text, nullable=False, server_default=TENANT),
                sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
                *others,
                sa.PrimaryKeyConstraint("tenant_id", "id", name=f"pk_{name}"),
            )
            enable_tenant_rls(op, name)
            grant(op, "SELECT, INSERT, UPDATE, DELETE", name, to=created.app)
        op.create_foreign_key("fk_tags_notes", "tags", "notes", ["tenant_id", "note_id"], ["tenant_id", "id"])
        create_once_table(op, used_by=[created.app])
        create_prologue_function(op, used_by=[created.app])
    yield created
    drop_database(postgres, created)


@pytest.fixture
def conn(place: Database, postgres: Postgres) -> Iterator[Connection]:
    """A superuser's, whose work is undone: tables, roles and rights are all of a transaction."""
    engine = create_engine(
        make_url(postgres.url(place.name, postgres.superuser, postgres.password)), poolclass=sa.NullPool
    )
    with engine.connect() as connected:
        yield connected


def found(conn: Connection, place: Database, *statements: str) -> list[Finding]:
    names = {"app": place.app, "owner": place.owner, "database": place.name}
    for statement in statements:
        conn.exec_driver_sql(statement.format(**names))
    return audit(conn, roles=[place.app])


def test_what_keeps_tenants_apart_has_no_finding(conn: Connection, place: Database) -> None:
    """The layer's own tables and functions included."""
    assert found(conn, place) == []


POLICY = "DROP POLICY tenant ON notes; CREATE POLICY tenant ON notes "
UNIT = "current_setting('app.tenant_id', true)"
USING = "USING (tenant_id = NULLIF(current_setting('app.tenant_id', true), ''))"
RESTRICTIVE = f"{POLICY} AS RESTRICTIVE"
SHARED_BY_NOTE = (
    "CREATE TABLE parts (note_id bigint); ALTER TABLE parts ENABLE ROW LEVEL SECURITY;"
    f"CREATE POLICY p ON parts USING (EXISTS (SELECT FROM notes n WHERE n.id = note_id AND n.tenant_id = {UNIT}))"
)
PARTS = (
    "CREATE TABLE parts (tenant_id text DEFAULT current_setting('app.tenant_id'), id int, PRIMARY KEY (tenant_id, id))"
    " PARTITION BY LIST (tenant_id); ALTER TABLE parts ENABLE ROW LEVEL SECURITY;"
    "ALTER TABLE parts FORCE ROW LEVEL SECURITY; GRANT SELECT, INSERT ON parts TO {app};"
    f"CREATE POLICY tenant ON parts {USING};"
    "CREATE TABLE part PARTITION OF parts DEFAULT"
)
CLOSED = (
    "CREATE SCHEMA closed; CREATE TABLE closed.things (tenant_id text);"
    "CREATE VIEW closed.shown AS SELECT * FROM notes; GRANT SELECT ON closed.shown TO {app}"
)
MUTATIONS = {
    "row security off": ("not-secured", "ALTER TABLE notes DISABLE ROW LEVEL SECURITY"),
    "not for the owner": ("not-forced", "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY"),
    "no policy at all": ("no-policy", "DROP POLICY tenant ON notes"),
    "a policy for reads only": ("no-policy", f"{POLICY} FOR SELECT {USING}"),
    "a policy for another role": ("no-policy", f"{POLICY} TO pg_monitor {USING}"),
    "a policy for one that it may become": (
        "policy-not-inherited",
        (f"CREATE ROLE readers; ALTER ROLE {{app}} NOINHERIT; GRANT readers TO {{app}};{POLICY} TO readers {USING}"),
    ),
    "a policy for reads only, for one that it may become": (
        "policy-not-inherited",
        (
            "CREATE ROLE readers; ALTER ROLE {app} NOINHERIT; GRANT readers TO {app};"
            f"{POLICY} FOR SELECT TO readers {USING};"
            f"CREATE POLICY own ON notes FOR INSERT WITH CHECK (tenant_id = {UNIT})"
        ),
    ),
    "only a restrictive one": ("no-policy", f"{POLICY} AS RESTRICTIVE {USING}"),
    "everybody sees everything": ("policy-without-tenant", "CREATE POLICY too ON notes FOR SELECT USING (true)"),
    "everybody writes everything": ("policy-without-tenant", f"{POLICY} {USING} WITH CHECK (true)"),
    "inserts for anybody": ("policy-without-tenant", "CREATE POLICY too ON notes FOR INSERT WITH CHECK (true)"),
    "restricted for another role": (
        "policy-without-tenant",
        f"{RESTRICTIVE} TO pg_monitor {USING}; CREATE POLICY too ON notes USING (true)",
    ),
    "restricted for reads only": (
        "policy-without-tenant",
        f"{RESTRICTIVE} FOR SELECT {USING}; CREATE POLICY too ON notes USING (true)",
    ),
    "restricted for writes only": (
        "policy-without-tenant",
        f"{RESTRICTIVE} WITH CHECK (tenant_id = {UNIT}); CREATE POLICY too ON notes USING (true)",
    ),
    "restricted by nothing": (
        "policy-without-tenant",
        f"{RESTRICTIVE} USING (tenant_id = {UNIT} OR body = ''); CREATE POLICY too ON notes USING (true)",
    ),
    "for the application by name": ("policy-without-tenant", "CREATE POLICY too ON notes TO {app} USING (true)"),
    "for a role that it is a member of": (
        "policy-without-tenant",
        "CREATE ROLE readers; GRANT readers TO {app}; CREATE POLICY too ON notes TO readers USING (true)",
    ),
    "another setting": (
        "policy-without-tenant",
        f"{POLICY} USING (tenant_id = current_setting('app.tenant', true))",
    ),
    "a policy by login": ("policy-without-tenant", f"{POLICY} USING (tenant_id = current_user)"),
    "or without a tenant": (
        "policy-with-a-way-around",
        (
            f"{POLICY} USING (tenant_id = current_setting('app.tenant_id', true)"
            " OR current_setting('app.tenant_id', true) = '')"
        ),
    ),
    "all but the tenant": (
        "policy-with-a-way-around",
        f"{POLICY} USING (tenant_id <> current_setting('app.tenant_id', true))",
    ),
    "the tenant, or where there is none, the row's own": (
        "policy-with-a-way-around",
        f"{POLICY} USING (tenant_id = COALESCE(NULLIF({UNIT}, ''), tenant_id))",
    ),
    "not the tenant": ("policy-with-a-way-around", f"{POLICY} USING (NOT (tenant_id = {UNIT}))"),
    "from the tenant on": ("policy-with-a-way-around", f"{POLICY} USING (tenant_id >= {UNIT})"),
    "where the tenant has anything": (
        "policy-with-a-way-around",
        f"{POLICY} USING (EXISTS (SELECT FROM tags t WHERE t.tenant_id = {UNIT}))",
    ),
    "its own and its own": ("policy-with-a-way-around", f"{POLICY} USING (tenant_id = tenant_id AND {UNIT} = {UNIT})"),
    "another column": ("policy-without-column", f"{POLICY} USING (body = current_setting('app.tenant_id', true))"),
    "fails on a fresh connection": (
        "policy-errs-unset",
        f"{POLICY} USING (tenant_id = current_setting('app.tenant_id'))",
    ),
    "fails without a tenant": (
        "policy-errs-empty",
        (
            "CREATE TABLE things (tenant_id uuid PRIMARY KEY DEFAULT current_setting('app.tenant_id')::uuid);"
            "ALTER TABLE things ENABLE ROW LEVEL SECURITY; ALTER TABLE things FORCE ROW LEVEL SECURITY;"
            "CREATE POLICY tenant ON things USING (tenant_id = current_setting('app.tenant_id', true)::uuid)"
        ),
    ),
    "a row of nobody's": (
        "nullable",
        "ALTER TABLE notes DROP CONSTRAINT pk_notes CASCADE; ALTER TABLE notes ALTER tenant_id DROP NOT NULL",
    ),
    "no default": ("no-default", "ALTER TABLE notes ALTER tenant_id DROP DEFAULT"),
    "a constant by default": ("other-default", "ALTER TABLE notes ALTER tenant_id SET DEFAULT 'acme'"),
    "padded with blanks": (
        "loose-comparison",
        "CREATE TABLE things (tenant_id char(8) PRIMARY KEY DEFAULT current_setting('app.tenant_id'))",
    ),
    "without regard to case": (
        "loose-comparison",
        # As ICU's collations may be, which not every build has.
        (
            "CREATE COLLATION loose (locale = 'C');"
            "CREATE TABLE things (tenant_id text COLLATE loose PRIMARY KEY DEFAULT current_setting('app.tenant_id'));"
            "SET LOCAL allow_system_table_mods = on;"
            "UPDATE pg_collation SET collisdeterministic = false WHERE collname = 'loose'"
        ),
    ),
    "no index": ("no-index", "ALTER TABLE tags DROP CONSTRAINT pk_tags"),
    "an index of a part": (
        "no-index",
        "ALTER TABLE tags DROP CONSTRAINT pk_tags; CREATE INDEX part ON tags (tenant_id) WHERE note_id > 0",
    ),
    "unique over all tenants": ("unique-for-all", "CREATE UNIQUE INDEX bodies ON notes (body)"),
    "unique by an expression": ("unique-for-all", "CREATE UNIQUE INDEX bodies ON notes (lower(body))"),
    "excluded by another's": ("unique-for-all", "ALTER TABLE notes ADD EXCLUDE USING btree (body WITH =)"),
    "refers to any tenant's": (
        "reference-to-another",
        (
            "CREATE UNIQUE INDEX ids ON notes (id); ALTER TABLE tags ADD CONSTRAINT other FOREIGN KEY (note_id)"
            " REFERENCES notes (id)"
        ),
    ),
    "a shared table refers to a tenant's": (
        "reference-to-another",
        "CREATE UNIQUE INDEX ids ON notes (id); CREATE TABLE shared (id bigint REFERENCES notes (id))",
    ),
    "a shared table": ("no-tenant", "CREATE TABLE shared (id bigint); GRANT SELECT ON shared TO {app}"),
    "a shared table, with a tenant or by number": (
        "no-tenant",
        (
            "CREATE TABLE shared (id bigint); GRANT SELECT ON shared TO {app};"
            "ALTER TABLE shared ENABLE ROW LEVEL SECURITY; CREATE POLICY tenant ON shared USING ("
            f"EXISTS (SELECT FROM notes n WHERE n.id = shared.id AND n.tenant_id = {UNIT}) OR id > 0)"
        ),
    ),
    "a shared table that is written to at will": (
        "no-tenant",
        (
            "CREATE TABLE shared (id bigint); GRANT SELECT, INSERT ON shared TO {app};"
            "ALTER TABLE shared ENABLE ROW LEVEL SECURITY; CREATE POLICY tenant ON shared USING ("
            f"EXISTS (SELECT FROM notes n WHERE n.id = shared.id AND n.tenant_id = {UNIT})) WITH CHECK (true)"
        ),
    ),
    "one column is granted": (
        "no-tenant",
        "CREATE TABLE shared (id bigint, name text); GRANT SELECT (name) ON shared TO {app}",
    ),
    "granted to everybody": ("no-tenant", "CREATE TABLE shared (id bigint); GRANT SELECT ON shared TO PUBLIC"),
    "may truncate": ("may-truncate", "GRANT TRUNCATE ON notes TO {app}"),
    "may become one that may truncate": (
        "may-truncate",
        "ALTER ROLE {app} NOINHERIT; CREATE ROLE readers; GRANT readers TO {app}; GRANT TRUNCATE ON notes TO readers",
    ),
    "may become one that may create": (
        "may-create",
        (
            "ALTER ROLE {app} NOINHERIT; CREATE ROLE readers; GRANT readers TO {app};"
            "GRANT CREATE ON SCHEMA public TO readers"
        ),
    ),
    "a shared table for one that it may become": (
        "no-tenant",
        (
            "CREATE TABLE shared (id bigint); CREATE ROLE readers; ALTER ROLE {app} NOINHERIT;"
            "GRANT readers TO {app}; GRANT SELECT ON shared TO readers"
        ),
    ),
    "may refer": ("may-references", "GRANT REFERENCES ON notes TO {app}"),
    "may add triggers": ("may-trigger", "GRANT TRIGGER ON notes TO {app}"),
    "a view": ("view-of-its-owner", "CREATE VIEW shown AS SELECT * FROM notes; GRANT SELECT ON shown TO {app}"),
    "a view of a view": (
        "view-of-its-owner",
        (
            "CREATE VIEW inner_one WITH (security_invoker = true) AS SELECT * FROM notes;"
            "CREATE VIEW shown AS SELECT body FROM inner_one; GRANT SELECT ON shown TO {app}"
        ),
    ),
    "a view to write through": (
        "view-of-its-owner",
        "CREATE VIEW shown AS SELECT * FROM notes; GRANT DELETE ON shown TO {app}",
    ),
    "a rule of a table": (
        "rule-of-its-owner",
        "CREATE RULE as_well AS ON INSERT TO tags DO ALSO DELETE FROM notes",
    ),
    "a rule of a view": (
        "rule-of-its-owner",
        (
            "CREATE VIEW shown AS SELECT 1 AS one; GRANT INSERT ON shown TO {app};"
            "CREATE RULE instead AS ON INSERT TO shown DO INSTEAD DELETE FROM notes"
        ),
    ),
    "a view of a table whose policy finds the tenant in another": (
        "view-of-its-owner",
        f"{SHARED_BY_NOTE}; CREATE VIEW shown AS SELECT * FROM parts; GRANT SELECT ON shown TO {{app}}",
    ),
    "a materialised view": (
        "materialized-view",
        "CREATE MATERIALIZED VIEW shown AS SELECT count(*) FROM notes; GRANT SELECT ON shown TO {app}",
    ),
    "a function of its owner": (
        "security-definer",
        "CREATE FUNCTION all_notes() RETURNS SETOF notes LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM notes'",
    ),
    "a trigger's function of its owner": (
        "security-definer",
        (
            "CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NEW; END';"
            "REVOKE EXECUTE ON FUNCTION fired() FROM PUBLIC;"
            "CREATE TRIGGER fires AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION fired()"
        ),
    ),
    "a leakproof function": (
        "leakproof",
        "CREATE FUNCTION look(text) RETURNS bool LANGUAGE sql LEAKPROOF AS 'SELECT true'",
    ),
    "a sequence": ("sequence-tells", "GRANT SELECT ON SEQUENCE notes_id_seq TO {app}"),
    "may create": ("may-create", "GRANT CREATE ON SCHEMA public TO {app}"),
    "granted at birth": (
        "granted-by-default",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {app}",
    ),
    "granted at birth to one that it may become": (
        "granted-by-default",
        (
            "CREATE ROLE readers; GRANT readers TO {app};"
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO readers"
        ),
    ),
    "granted to all at birth": (
        "granted-by-default",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC",
    ),
    "a foreign table": (
        "foreign-table",
        (
            "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;"
            "CREATE FOREIGN TABLE remote (tenant_id text NOT NULL DEFAULT current_setting('app.tenant_id'))"
            " SERVER elsewhere"
        ),
    ),
    "an open partition": (
        "not-secured",
        f"{PARTS}; GRANT SELECT ON part TO {{app}}",
    ),
    "a column of a partition for one that it may become": (
        "not-secured",
        (
            f"{PARTS}; CREATE ROLE readers; ALTER ROLE {{app}} NOINHERIT; GRANT readers TO {{app}};"
            "GRANT SELECT (id) ON part TO readers"
        ),
    ),
    "a partition of a partition for everybody": (
        "not-secured",
        (
            f"{PARTS}; ALTER TABLE parts DETACH PARTITION part; DROP TABLE part;"
            "CREATE TABLE part PARTITION OF parts DEFAULT PARTITION BY LIST (id);"
            "CREATE TABLE one PARTITION OF part DEFAULT; GRANT SELECT ON one TO PUBLIC"
        ),
    ),
    "a view of a partition": (
        "view-of-its-owner",
        f"{PARTS}; CREATE VIEW shown AS SELECT * FROM part; GRANT SELECT ON shown TO {{app}}",
    ),
    "a partition's key over all tenants": ("unique-for-all", f"{PARTS}; CREATE UNIQUE INDEX ids ON part (id)"),
    "a schema that it may come to use": (
        "not-secured",
        (
            f"{CLOSED}; CREATE ROLE readers; ALTER ROLE {{app}} NOINHERIT; GRANT readers TO {{app}};"
            "GRANT USAGE ON SCHEMA closed TO readers"
        ),
    ),
    "a schema that whoever enters as it may use": (
        "not-secured",
        f"{CLOSED}; CREATE ROLE login; GRANT {{app}} TO login; GRANT USAGE ON SCHEMA closed TO login",
    ),
    "a granted table of a closed schema, whose values pg_stats shows": (
        "not-secured",
        f"{CLOSED}; GRANT SELECT ON closed.things TO PUBLIC",
    ),
    "a materialised view of a closed schema": (
        "materialized-view",
        (
            f"{CLOSED}; CREATE MATERIALIZED VIEW closed.counted AS SELECT * FROM notes;"
            "GRANT SELECT ON closed.counted TO {app}"
        ),
    ),
    "a view of a closed schema in a function": (
        "view-of-its-owner",
        (
            f"{CLOSED}; CREATE FUNCTION things() RETURNS SETOF text LANGUAGE sql"
            " BEGIN ATOMIC SELECT tenant_id FROM closed.shown; END"
        ),
    ),
    "a view of a closed schema in another": (
        "view-of-its-owner",
        (
            f"{CLOSED}; CREATE VIEW shown WITH (security_invoker) AS SELECT * FROM closed.shown;"
            "GRANT SELECT ON shown TO {app}"
        ),
    ),
    "a superuser": ("superuser", "ALTER ROLE {app} SUPERUSER"),
    "above policies": ("bypasses", "ALTER ROLE {app} BYPASSRLS"),
    "replicates": ("replicates", "ALTER ROLE {app} REPLICATION"),
    "runs programs on the server": ("may-bypass", "GRANT pg_execute_server_program TO {app}"),
    "replicates on RDS": ("may-bypass", "CREATE ROLE rds_replication; GRANT rds_replication TO {app}"),
    "makes roles": ("makes-roles", "ALTER ROLE {app} CREATEROLE"),
    "a member of the owner": ("may-own", "GRANT {owner} TO {app}"),
    "a member by another": ("may-own", "CREATE ROLE between; GRANT {owner} TO between; GRANT between TO {app}"),
    "a member of one above policies": ("may-bypass", "CREATE ROLE above BYPASSRLS; GRANT above TO {app}"),
    "the owner itself": ("owns-tables", "ALTER TABLE notes OWNER TO {app}"),
    "a tenant from the start": ("preset-tenant", "ALTER ROLE {app} SET app.tenant_id = 'acme'"),
    "a tenant for all": ("preset-tenant", "ALTER DATABASE {database} SET app.tenant_id = 'acme'"),
    "a tenant by another spelling": ("preset-tenant", "ALTER ROLE {app} SET \"App.Tenant_ID\" = 'acme'"),
    "another role from the start": ("preset-role", "ALTER ROLE {app} SET role = '{owner}'"),
    "policies off, in another word": ("preset-row-security", "ALTER ROLE {app} SET row_security = false"),
    "policies off": ("preset-row-security", "ALTER ROLE {app} SET row_security = off"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_each_hole_is_found(mutation: str, conn: Connection, place: Database) -> None:
    """By a word of its own, with the object's name and what to do."""
    kind, statements = MUTATIONS[mutation]
    findings = found(conn, place, statements)
    assert kind in {finding.kind for finding in findings}, [str(finding) for finding in findings]
    assert all(finding.subject and finding.problem and finding.remedy for finding in findings)


def test_there_are_enough_of_them() -> None:
    """At least one for each word."""
    assert len(MUTATIONS) >= 50


SHARED = "CREATE TABLE shared (id bigint); GRANT SELECT ON shared TO {app}"


@pytest.mark.parametrize("name", ["shared for {app}", "no-tenant shared for {app}"])
def test_what_is_meant_to_be_is_allowed_by_name(name: str, conn: Connection, place: Database) -> None:
    """With its reason."""
    assert found(conn, place, SHARED)
    allowed = {name.format(app=place.app): "currencies are everybody's"}
    assert audit(conn, roles=[place.app], allowed=allowed) == []


@pytest.mark.parametrize("column", ["org_id", "user", "Org id", 'a"b'])
def test_the_column_may_have_any_name(column: str, conn: Connection, place: Database) -> None:
    """A word of SQL, and what has to be quoted, too; and so may the table and the role."""
    op = Operations(MigrationContext.configure(conn))
    op.create_table(
        "It's one", sa.Column(column, sa.Text, nullable=False, server_default=TENANT), sa.PrimaryKeyConstraint(column)
    )
    enable_tenant_rls(op, "It's one", column=column)
    op.execute("""CREATE ROLE "it's \"\"another" """)
    grant(op, "SELECT, INSERT", "It's one", to="it's \"another")
    assert audit(conn, roles=["it's \"another"], column=column) == []


def test_the_role_that_purges_the_layers_table_is_meant_to(conn: Connection, place: Database) -> None:
    """It sees the records of all tenants that have expired."""
    conn.exec_driver_sql("DROP TABLE db_once; CREATE ROLE purger")
    op = Operations(MigrationContext.configure(conn))
    create_once_table(op, used_by=[place.app], purged_by="purger")
    assert audit(conn, roles=[place.app, "purger"]) == []
    conn.exec_driver_sql("ALTER POLICY purge_select ON db_once USING (true)")
    assert [finding.kind for finding in audit(conn, roles=["purger"])] == ["policy-without-tenant"]


def test_an_exception_needs_a_reason_and_a_finding(conn: Connection, place: Database) -> None:
    """One that nothing is left of is a finding itself."""
    with pytest.raises(ValueError, match="shared"):
        audit(conn, roles=[place.app], allowed={"shared": " "})
    with pytest.raises(TypeError, match="a reason for each finding's name, and is of type list"):
        audit(conn, roles=[place.app], allowed=["shared"])  # type: ignore[arg-type]
    (left,) = audit(conn, roles=[place.app], allowed={"shared": "currencies are everybody's"})
    assert (left.kind, left.subject) == ("allowed-in-vain", "shared")


def test_it_takes_one_trip(place: Database, wire: MakeWire) -> None:
    """Of any role that may connect: the application's own sees the same."""
    proxy = wire()
    engine = create_engine(place.through(proxy).url(), poolclass=sa.NullPool)
    with engine.connect() as conn:
        before = proxy.counts()
        conn.exec_driver_sql("SELECT 1")  # and BEGIN
        begun = proxy.counts()
        assert audit(conn, roles=[place.app]) == []
        assert (proxy.counts() - begun).trips == 1
        assert (begun - before).trips == 2


def test_a_role_that_is_not_there(conn: Connection) -> None:
    """Nothing could be said of it."""
    assert "no-role" in {finding.kind for finding in audit(conn, roles=["nobody"])}


def test_a_shared_table_that_policies_bind_by_a_subquery(conn: Connection, place: Database) -> None:
    """It has no tenant of its own, and shows a tenant's rows only."""
    policy = "CREATE POLICY tenant ON shared USING (EXISTS (SELECT FROM notes n WHERE n.id = shared.id"
    policy += " AND n.tenant_id = current_setting('app.tenant_id', true)))"
    assert found(conn, place, SHARED, "ALTER TABLE shared ENABLE ROW LEVEL SECURITY", policy) == []


def test_views_in_a_circle_end_the_look_at_them(conn: Connection, place: Database) -> None:
    """CREATE OR REPLACE VIEW lets them read each other; only who reads them is refused."""
    views = "CREATE VIEW one AS SELECT 1 AS n; CREATE VIEW two AS SELECT n FROM one;"
    views += "CREATE OR REPLACE VIEW one AS SELECT n FROM two; GRANT SELECT ON one, two TO {app}"
    assert found(conn, place, views) == []


def test_shared_rows_by_a_policy_for_each_command(conn: Connection, place: Database) -> None:
    """An INSERT has no USING, and a policy for another role is that role's."""
    found_by = f"(EXISTS (SELECT FROM notes n WHERE n.id = shared.id AND n.tenant_id = {UNIT}))"
    policies = (
        f"CREATE POLICY reads ON shared FOR SELECT USING {found_by};"
        f"CREATE POLICY writes ON shared FOR INSERT WITH CHECK {found_by};"
        "CREATE ROLE clerks; CREATE POLICY clerks ON shared TO clerks USING (true)"
    )
    table = f"{SHARED}; GRANT INSERT ON shared TO {{app}}; ALTER TABLE shared ENABLE ROW LEVEL SECURITY"
    assert found(conn, place, table, policies) == []


@pytest.mark.parametrize(
    "using",
    [
        f"tenant_id = {UNIT} AND (body IS NOT NULL OR id > 7) AND body <> 'hidden'",
        f"(tenant_id = {UNIT} AND id > 7) OR (id < 7 AND {UNIT} = tenant_id)",
        f"tenant_id = (SELECT {UNIT})",
        f"tenant_id::varchar = {UNIT}",
    ],
)
def test_a_policy_that_keeps_to_the_tenant_in_other_words(using: str, conn: Connection, place: Database) -> None:
    """It may ask for more than the tenant, and in which order is its own affair."""
    assert found(conn, place, f"{POLICY} USING ({using})") == []


@pytest.mark.parametrize("whom", ["", "TO {app}"])
def test_a_restrictive_policy_keeps_to_the_tenant_what_another_lets_through(
    whom: str, conn: Connection, place: Database
) -> None:
    """Both hold for each row, so that one may be for the tenant alone and the other for all else."""
    assert found(conn, place, f"{RESTRICTIVE} {USING}; CREATE POLICY too ON notes {whom} USING (true)") == []


def test_a_column_that_is_cast_does_not_fail(conn: Connection, place: Database) -> None:
    """Only what casts the setting does, which is '' where no tenant is."""
    table = (
        "CREATE TABLE things (tenant_id uuid PRIMARY KEY DEFAULT current_setting('app.tenant_id')::uuid);"
        "ALTER TABLE things ENABLE ROW LEVEL SECURITY; ALTER TABLE things FORCE ROW LEVEL SECURITY;"
        f"CREATE POLICY tenant ON things USING (tenant_id::text = {UNIT})"
    )
    assert found(conn, place, table) == []


@pytest.mark.parametrize("said", ["security_invoker", "security_invoker = yes", "security_invoker = 't'"])
def test_a_view_with_its_readers_rights(said: str, conn: Connection, place: Database) -> None:
    """It is as good as the table, however its option is written."""
    view = f"CREATE VIEW shown WITH ({said}) AS SELECT * FROM notes; GRANT SELECT ON shown TO {{app}}"
    assert found(conn, place, view) == []


@pytest.mark.parametrize(
    "statements",
    [
        f"CREATE ROLE readers; GRANT readers TO {{app}}; {POLICY} TO readers {USING}",
        # Neither the right nor the policy is its own: it has both, or none.
        f"""CREATE ROLE readers; ALTER ROLE {{app}} NOINHERIT; GRANT readers TO {{app}};
        REVOKE ALL ON notes FROM {{app}}; GRANT SELECT ON notes TO readers; {POLICY} TO readers {USING}""",
    ],
)
def test_a_policy_for_a_group_is_its_members(statements: str, conn: Connection, place: Database) -> None:
    """As long as they inherit it, or become the group to use its rights."""
    assert found(conn, place, statements) == []


def test_a_partition_is_reached_through_its_table(conn: Connection, place: Database) -> None:
    """Whose policies hold there, and so it is with INHERITS. Without a role to look at, nothing is known of that."""
    heir = "CREATE TABLE heir () INHERITS (notes); ALTER TABLE heir ADD PRIMARY KEY (tenant_id, id)"
    assert found(conn, place, PARTS, heir) == []
    assert {"heir", "part"} <= {finding.subject for finding in audit(conn, roles=[])}


def test_what_is_in_a_schema_that_it_may_not_use(conn: Connection, place: Database) -> None:
    """Another application's tables that were not granted, and its views. A master, who makes roles, may use it."""
    conn.exec_driver_sql(f"CREATE ROLE master CREATEROLE; GRANT {place.app} TO master")
    granted = "GRANT USAGE ON SCHEMA closed TO master; GRANT ALL ON closed.things TO master"
    assert found(conn, place, CLOSED, granted) == []


def test_what_functions_cannot_reach_is_nobodys_business(conn: Connection, place: Database) -> None:
    """A table, a view and a sequence of the owner's own."""
    assert found(conn, place, "CREATE TABLE own (id serial); CREATE VIEW shown AS SELECT * FROM notes") == []
