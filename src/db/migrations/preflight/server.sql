-- What the server says of itself, of the login, and of what the layer needs of a schema: all of it in one row, as text.
SELECT json_build_object(
    'version', current_setting('server_version'),
    'number', current_setting('server_version_num')::int,
    'now', extract(epoch FROM clock_timestamp()),
    'process', pg_backend_pid(),
    'is_replica', pg_is_in_recovery(),
    'is_read_only', current_setting('default_transaction_read_only') = 'on',
    -- What the session began with: nothing has been said on it yet.
    'has_tenant', coalesce(current_setting(:tenant_setting, true), '') <> '',
    'is_row_security_off', current_setting('row_security') = 'off',
    'login', role.rolname,
    -- Another one where a session begins with SET ROLE, which a RESET ROLE takes back.
    'logged_in_as', session_user,
    'superuser', CASE WHEN role.rolsuper THEN role.rolname WHEN entered.rolsuper THEN entered.rolname END,
    -- These are looked at before any SET ROLE.
    'of_role', entered.rolconnlimit,
    'password_until', CASE WHEN isfinite(entered.rolvaliduntil) THEN extract(epoch FROM entered.rolvaliduntil) END,
    'of_database', here.datconnlimit,
    'of_server', current_setting('max_connections')::int,
    'reserved', current_setting('superuser_reserved_connections')::int
        + coalesce(current_setting('reserved_connections', true), '0')::int,
    'idle_session_ms', (SELECT setting::bigint FROM pg_settings WHERE name = 'idle_session_timeout'),
    'taken', (SELECT sum(numbackends) FROM pg_stat_database),
    'schemas', (SELECT coalesce(json_agg(json_build_object(
        'name', named.name,
        'is_there', pg_namespace.oid IS NOT NULL,
        'may_use', has_schema_privilege(pg_namespace.oid, 'USAGE'))), '[]'::json)
        FROM unnest(CAST(:schemas AS text[])) AS named (name)
        LEFT JOIN pg_namespace ON pg_namespace.nspname = named.name),
    -- The application's: not Alembic's own, nor an extension's, some of which everybody may read.
    'tables', (SELECT json_build_object(
        'are_there', count(*),
        'may_use', count(*) FILTER (
            WHERE has_schema_privilege(relnamespace, 'USAGE') AND (
                has_any_column_privilege(pg_class.oid, 'SELECT, INSERT, UPDATE')
                OR has_table_privilege(pg_class.oid, 'DELETE'))),
        'of_tenants', count(*) FILTER (WHERE relkind IN ('r', 'p', 'f') AND EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = pg_class.oid AND attname = 'tenant_id' AND NOT attisdropped)))
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'f', 'v', 'm') AND relname <> 'alembic_version'
        AND nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\_%'
        AND NOT EXISTS (SELECT FROM pg_depend
            WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e')),
    -- Those of a column's default. The sequence of an identity asks nobody for a privilege.
    'closed_sequences', (SELECT coalesce(json_agg(DISTINCT sequence.oid::regclass::text), '[]'::json)
        FROM pg_attrdef
        JOIN pg_depend ON classid = 'pg_attrdef'::regclass AND objid = pg_attrdef.oid
        JOIN pg_class AS sequence ON refclassid = 'pg_class'::regclass AND sequence.oid = refobjid
        WHERE has_any_column_privilege(adrelid, 'INSERT')
        AND CASE WHEN relkind = 'S' THEN NOT has_sequence_privilege(sequence.oid, 'USAGE, UPDATE') END),
    'once', (SELECT json_build_object(
        'rights', (SELECT json_object_agg(wanted, has_table_privilege(found.oid, wanted))
            FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted),
        'columns', (SELECT json_agg(attname) FROM pg_attribute
            WHERE attrelid = found.oid AND attnum > 0 AND NOT attisdropped),
        'is_keyed', EXISTS (SELECT FROM pg_index
            WHERE indrelid = found.oid AND indisunique AND indisvalid AND indpred IS NULL AND indnkeyatts = 2 AND (
                SELECT array_agg(attname ORDER BY attname) FROM pg_attribute
                WHERE attrelid = found.oid AND attnum = ANY (indkey)) = ARRAY['key', 'tenant_id']::name[]))
        FROM (SELECT to_regclass('db_once') AS oid) AS found WHERE found.oid IS NOT NULL),
    'once_elsewhere', (SELECT min(nspname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relname = 'db_once' AND relkind IN ('r', 'p')
        -- That of another application in the same database is none of this login's.
        AND has_table_privilege(pg_class.oid, 'SELECT, INSERT, UPDATE, DELETE')),
    'functions', (SELECT json_object_agg(wanted, (
        SELECT bool_or(has_function_privilege(pg_proc.oid, 'EXECUTE'))
        FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE proname = wanted AND nspname = coalesce(:first, nspname)
        AND (CAST(:first AS text) IS NOT NULL OR pg_function_is_visible(pg_proc.oid))))
        FROM unnest(CAST(:functions AS text[])) AS wanted)
)::text
FROM pg_roles AS role, pg_roles AS entered, pg_database AS here
WHERE role.rolname = current_user AND entered.rolname = session_user AND here.datname = current_database()
