"""The catalog queries of the control session: SQL text only, schema-qualified where a search path could mislead."""

from __future__ import annotations

# One query: the answers belong together only when they are of one moment.
SLOT_STATE = """
SELECT s.slot_name IS NOT NULL, coalesce(s.active_pid, 0), coalesce(s.confirmed_flush_lsn, '0/0')::text,
       coalesce(s.restart_lsn, '0/0')::text, coalesce(s.wal_status, ''), w.lsn::text,
       (SELECT system_identifier::text FROM pg_control_system()), current_database()::text,
       greatest(coalesce(pg_wal_lsn_diff(w.lsn, s.restart_lsn), 0), 0)::bigint,
       coalesce(to_jsonb(s) ->> 'invalidation_reason', '')
FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS lsn) w
LEFT JOIN pg_replication_slots s ON s.slot_name = %(slot)s
"""

IDENTITY = """
SELECT (SELECT system_identifier::text FROM pg_control_system()),
       CASE WHEN pg_is_in_recovery() THEN 0
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
       current_database()::text, current_setting('wal_level'), current_setting('server_version_num')::int,
       pg_is_in_recovery(), current_user::text,
       (SELECT setting::int FROM pg_settings WHERE name = 'wal_sender_timeout')
"""

PRIVILEGES = """
SELECT r.rolsuper OR r.rolreplication
       OR EXISTS (SELECT FROM pg_roles m WHERE m.rolname = 'rds_replication' AND pg_has_role(r.oid, m.oid, 'member')),
       quote_ident(r.rolname)
FROM pg_roles r WHERE r.rolname = current_user
"""

SLOT_KIND = """
SELECT slot_type, coalesce(plugin, '')::text, coalesce(database, '')::text
FROM pg_replication_slots WHERE slot_name = %(slot)s
"""

PUBLICATION = """
SELECT quote_ident(%(publication)s), p.pubname IS NOT NULL, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete,
       p.pubtruncate
FROM (SELECT 1) one LEFT JOIN pg_publication p ON p.pubname = %(publication)s
"""

PUBLISHED = """
SELECT schemaname::text, tablename::text, {filters}
FROM pg_publication_tables WHERE pubname = %(publication)s ORDER BY 1, 2
"""
FILTERS_SINCE = 150000
FILTERS = """rowfilter IS NOT NULL,
       cardinality(attnames) < (SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
           JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = schemaname AND c.relname = tablename AND a.attnum > 0 AND NOT a.attisdropped
             AND a.attgenerated = '')"""
NO_FILTERS = "false, false"

# Foreign and temporary tables cannot be published.
TABLES = """
SELECT n.nspname::text, c.relname::text, format('%%I.%%I', n.nspname, c.relname), c.relkind::text,
       c.relreplident::text,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%%'
UNION ALL
SELECT n.nspname::text, c.relname::text, format('%%I.%%I', n.nspname, c.relname), 'partition', c.relreplident::text,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relispartition
ORDER BY 1, 2
"""

QUOTED = "SELECT format('%%I.%%I', s, t) FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS x(s, t)"

NAMED = """
SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p')
"""

COLUMNS = """
SELECT a.attname::text, a.attnotnull OR (t.typtype = 'd' AND t.typnotnull),
       CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
"""

# What Debezium takes for a key: the primary key, else the first unique index in the JDBC driver's order, all of its
# columns, also those it only includes, and also when they may be NULL or the index is partial or deferrable.
KEY = """
SELECT ARRAY(SELECT a.attname::text FROM unnest(i.columns) WITH ORDINALITY k(attnum, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.place)
FROM (SELECT x.*, (x.indkey::int2[])[0:CASE WHEN x.indisprimary THEN x.indnkeyatts ELSE x.indnatts END - 1] AS columns
      FROM pg_index x) i
JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indisvalid AND NOT 0 = ANY (i.columns)
ORDER BY i.indisprimary DESC, i.indisclustered DESC, c.relname
LIMIT 1
"""

TYPES = """
WITH RECURSIVE wanted(oid) AS (
    SELECT unnest(%(oids)s::oid[])
  UNION
    SELECT v.oid FROM wanted w JOIN pg_type t ON t.oid = w.oid, LATERAL (VALUES (t.typelem), (t.typbasetype)) v(oid)
    WHERE v.oid <> 0
)
SELECT t.oid::bigint, t.typname::text, t.typtype::text, n.nspname::text,
       coalesce((SELECT e.oid::bigint FROM pg_type e WHERE e.typarray = t.oid), 0), t.typbasetype::bigint, t.typtypmod,
       ARRAY(SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder)
FROM wanted w JOIN pg_type t ON t.oid = w.oid JOIN pg_namespace n ON n.oid = t.typnamespace
"""
