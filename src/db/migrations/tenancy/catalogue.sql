-- All that the audit wants to know of the database, as one JSON document. Extensions' own objects are left out: they are
-- not the application's to change. :roles are those that functions log in as.
WITH
own_schemas AS (
  SELECT oid, nspname FROM pg_namespace
  WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\_%'
),
of_extensions AS (
  SELECT objid FROM pg_depend WHERE deptype = 'e'
),
-- Each with the roles that it is or may become. Those of a superuser, and a superuser's rights, say nothing.
audited AS (
  SELECT r.rolname, o.oid, o.oid = r.oid AS is_itself
  FROM pg_roles r
  JOIN pg_roles o ON o.oid = r.oid OR (NOT r.rolsuper AND NOT o.rolsuper AND pg_has_role(r.oid, o.oid, 'MEMBER'))
  WHERE r.rolname = ANY (CAST(:roles AS text[]))
),
-- These, and who may become one of them: whoever logs in so may have a schema that the role of the grant has not. Not
-- whoever makes roles, as a master who may become all that he has made.
behind_audited AS MATERIALIZED (
  SELECT oid FROM audited
  UNION
  SELECT m.oid FROM pg_roles m JOIN audited a ON pg_has_role(m.oid, a.oid, 'MEMBER')
  WHERE NOT m.rolsuper AND NOT m.rolcreaterole
),
relations AS (
  SELECT
    c.oid::regclass::text AS name,
    c.relkind AS kind,
    pg_get_userbyid(c.relowner) AS owner,
    -- Nobody can name it. Who has a right to a table needs no name: pg_stats shows values of its columns, and neither a
    -- view with its reader's rights nor a function looks for a schema once it is defined. So it is for a view that
    -- another reads. With nobody to look at, nothing is said of that.
    EXISTS (SELECT FROM audited)
      AND NOT EXISTS (SELECT FROM behind_audited b WHERE has_schema_privilege(b.oid, n.oid, 'USAGE'))
      AND (granted.rights IS NULL OR c.relkind = 'v' AND NOT EXISTS (
        SELECT FROM pg_depend d
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.deptype = 'n'
          AND d.classid IN ('pg_rewrite'::regclass, 'pg_proc'::regclass)
      )) AS closed,
    -- The only way to its rows is the table that it is a part of, whose policies hold for them then.
    EXISTS (SELECT FROM audited) AND granted.rights IS NULL
      AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid) AS behind_another,
    c.relrowsecurity AS secured,
    c.relforcerowsecurity AS forced,
    -- As it was written: yes, on, true, 1 or what begins one of them.
    coalesce((
      SELECT option_value::boolean FROM pg_options_to_table(c.reloptions) WHERE option_name = 'security_invoker'
    ), false) AS invoker,
    coalesce((
      SELECT json_agg(json_build_object(
        'name', a.attname,
        'type', format_type(a.atttypid, a.atttypmod),
        'notnull', a.attnotnull,
        'default', pg_get_expr(d.adbin, d.adrelid),
        'deterministic', coalesce(l.collisdeterministic, true)
      ) ORDER BY a.attnum)
      FROM pg_attribute a
      LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      LEFT JOIN pg_collation l ON l.oid = a.attcollation
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    ), '[]') AS columns,
    coalesce((
      SELECT json_agg(json_build_object(
        'name', p.polname,
        'permissive', p.polpermissive,
        'command', p.polcmd,
        -- A policy for all roles has the oid 0 in their place.
        'roles', (
          SELECT json_agg(coalesce(r.rolname, 'public')) FROM unnest(p.polroles) o (oid)
          LEFT JOIN pg_roles r ON r.oid = o.oid
        ),
        'using', pg_get_expr(p.polqual, p.polrelid),
        'check', pg_get_expr(p.polwithcheck, p.polrelid)
      ) ORDER BY p.polname)
      FROM pg_policy p WHERE p.polrelid = c.oid
    ), '[]') AS policies,
    coalesce((
      SELECT json_agg(json_build_object(
        'name', i.indexrelid::regclass::text,
        'valid', i.indisvalid,
        'unique', i.indisunique OR i.indisexclusion,
        'partial', i.indpred IS NOT NULL,
        -- An expression has no column, and the number 0.
        'columns', (
          SELECT json_agg(a.attname ORDER BY k.place)
          FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)
          LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number AND k.number > 0
          WHERE k.place <= i.indnkeyatts
        )
      ) ORDER BY i.indexrelid)
      FROM pg_index i WHERE i.indrelid = c.oid
    ), '[]') AS indexes,
    coalesce((
      SELECT json_agg(json_build_object(
        'name', f.conname,
        'table', f.confrelid::regclass::text,
        'columns', (
          SELECT json_agg(json_build_array(a.attname, b.attname) ORDER BY k.place)
          FROM unnest(f.conkey, f.confkey) WITH ORDINALITY k (here, there, place)
          JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.here
          JOIN pg_attribute b ON b.attrelid = f.confrelid AND b.attnum = k.there
        )
      ) ORDER BY f.conname)
      -- Those of partitions are their table's.
      FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.conparentid = 0
    ), '[]') AS foreign_keys,
    coalesce(granted.rights, '{}') AS rights,
    coalesce(granted.at_once, '{}') AS at_once,
    coalesce((
      SELECT json_agg(DISTINCT d.refobjid::regclass::text)
      FROM pg_rewrite w
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
      WHERE w.ev_class = c.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid
    ), '[]') AS reads,
    coalesce((
      SELECT json_agg(DISTINCT w.rulename)
      FROM pg_rewrite w
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
      WHERE w.ev_class = c.oid AND w.ev_type <> '1' AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid
    ), '[]') AS rules
  FROM pg_class c
  JOIN own_schemas n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL (
    SELECT
      json_object_agg(r.rolname, r.privileges) AS rights,
      -- Those of the role as it logs in, without a SET ROLE.
      json_object_agg(r.rolname, r.own) FILTER (WHERE r.own IS NOT NULL) AS at_once
    FROM (
      SELECT
        a.rolname,
        json_agg(DISTINCT p.privilege) AS privileges,
        json_agg(DISTINCT p.privilege) FILTER (WHERE a.is_itself) AS own
      FROM audited a,
        unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p (privilege)
      WHERE has_table_privilege(a.oid, c.oid, p.privilege)
        OR CASE WHEN p.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
             THEN has_any_column_privilege(a.oid, c.oid, p.privilege) END
      GROUP BY a.rolname
    ) r
  ) granted
  WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't'
    AND c.oid NOT IN (SELECT objid FROM of_extensions)
  ORDER BY 1
),
functions AS (
  SELECT
    f.oid::regprocedure::text AS name,
    f.prosecdef AS definer,
    f.proleakproof AS leakproof,
    pg_get_userbyid(f.proowner) AS owner,
    EXISTS (SELECT FROM unnest(f.proconfig) s WHERE s LIKE 'search\_path=%') AS has_path,
    coalesce((
      SELECT json_agg(DISTINCT a.rolname) FROM audited a
      WHERE has_function_privilege(a.oid, f.oid, 'EXECUTE')
        -- A trigger's is called for who may change the rows, whoever may call it by name.
        OR EXISTS (
          SELECT FROM pg_trigger g
          WHERE g.tgfoid = f.oid AND (
            has_table_privilege(a.oid, g.tgrelid, 'INSERT, UPDATE, DELETE, TRUNCATE')
            OR has_any_column_privilege(a.oid, g.tgrelid, 'INSERT, UPDATE')
          )
        )
    ), '[]') AS called_by
  FROM pg_proc f JOIN own_schemas n ON n.oid = f.pronamespace
  WHERE (f.prosecdef OR f.proleakproof) AND f.oid NOT IN (SELECT objid FROM of_extensions)
  ORDER BY 1
),
sequences AS (
  SELECT
    c.oid::regclass::text AS name,
    (
      SELECT d.refobjid::regclass::text FROM pg_depend d
      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
        AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
      LIMIT 1
    ) AS "table",
    coalesce((
      SELECT json_agg(DISTINCT a.rolname) FROM audited a WHERE has_sequence_privilege(a.oid, c.oid, 'SELECT')
    ), '[]') AS read_by
  FROM pg_class c JOIN own_schemas n ON n.oid = c.relnamespace
  WHERE c.relkind = 'S' AND c.oid NOT IN (SELECT objid FROM of_extensions)
  ORDER BY 1
),
schemas AS (
  SELECT
    n.nspname AS name,
    coalesce((
      SELECT json_agg(DISTINCT a.rolname) FROM audited a WHERE has_schema_privilege(a.oid, n.oid, 'CREATE')
    ), '[]') AS created_in_by
  FROM own_schemas n
  ORDER BY 1
),
defaults AS (
  SELECT
    pg_get_userbyid(d.defaclrole) AS owner,
    coalesce(n.nspname, '') AS schema,
    x.privilege_type AS privilege,
    CASE x.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(x.grantee) END AS role
  FROM pg_default_acl d
  LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
  CROSS JOIN aclexplode(d.defaclacl) x
  WHERE d.defaclobjtype = 'r' AND x.grantee <> d.defaclrole
  ORDER BY 1, 2, 3, 4
),
roles AS (
  SELECT
    r.rolname AS name,
    r.rolsuper AS superuser,
    r.rolbypassrls AS bypasses,
    r.rolcreaterole AS makes_roles,
    r.rolreplication AS replicates,
    -- A superuser may be every role, which says nothing.
    coalesce((
      SELECT json_agg(o.rolname ORDER BY o.rolname) FROM pg_roles o
      WHERE o.oid <> r.oid AND NOT r.rolsuper AND pg_has_role(r.oid, o.oid, 'MEMBER')
    ), '[]') AS may_be,
    -- Whose rights and policies it has without a SET ROLE: not those of a membership that does not inherit.
    coalesce((
      SELECT json_agg(o.rolname ORDER BY o.rolname) FROM pg_roles o
      WHERE o.oid <> r.oid AND NOT r.rolsuper AND pg_has_role(r.oid, o.oid, 'USAGE')
    ), '[]') AS inherits
  FROM pg_roles r
  ORDER BY 1
),
presets AS (
  SELECT coalesce(r.rolname, '') AS role, s.setting
  FROM pg_db_role_setting g
  LEFT JOIN pg_roles r ON r.oid = g.setrole
  CROSS JOIN unnest(g.setconfig) s (setting)
  WHERE g.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  ORDER BY 1, 2
)
SELECT json_build_object(
  'relations', (SELECT coalesce(json_agg(row_to_json(t)), '[]') FROM relations t),
  'functions', (SELECT coalesce(json_agg(row_to_json(t)), '[]') FROM functions t),
  'sequences', (SELECT coalesce(json_agg(row_to_json(t)), '[]') FROM sequences t),
  'schemas', (SELECT coalesce(json_agg(row_to_json(t)), '[]') FROM schemas t),
  'defaults', (SELECT coalesce(json_agg(row_to_json(t)), '[]') FROM defaults t),
  'roles', (SELECT coalesce(json_agg(row_to_json(t)), '[]') FROM roles t),
  'presets', (SELECT coalesce(json_agg(row_to_json(t)), '[]') FROM presets t)
)::text
