"""A PostgreSQL with a known backlog: rows that wait in slots, and the SQL to watch them being drained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from deltaforge.embedded.postgres import PostgresServer

ROWS_PER_TRANSACTION = 100
PUBLICATION = "orders_pub"
_TABLES = (
    "create table orders(id bigint primary key, customer_id bigint not null, status text not null,"
    " total numeric(12,2) not null, note text, created_at timestamptz not null, updated_at timestamptz)",
    f"create publication {PUBLICATION} for table orders",
)
_LOAD = f"""do $$ begin
  for part in 0 .. {{parts}} - 1 loop
    insert into orders
      select part * {ROWS_PER_TRANSACTION} + n, n * 7, case when n % 2 = 0 then 'new' else 'paid' end, n * 1.25,
             'order ' || n || ' of part ' || part, now() - n * interval '1 second', null
      from generate_series(1, {ROWS_PER_TRANSACTION}) n;
    commit;
  end loop;
end $$"""


class Backlog:
    """The table, its rows and the slots on one server."""

    def __init__(self, server: PostgresServer) -> None:
        """Make the table and the publication."""
        self.dsn = server.dsn()
        self._run(*_TABLES)

    def make_slot(self, name: str) -> None:
        """A slot that keeps everything from now on."""
        self._run(f"select pg_create_logical_replication_slot('{name}', 'pgoutput')")

    def load(self, rows: int) -> str:
        """Insert the rows in transactions of `ROWS_PER_TRANSACTION`. Returns the WAL position after the last one."""
        self._run(_LOAD.format(parts=rows // ROWS_PER_TRANSACTION), "checkpoint")
        return str(self._value("select pg_current_wal_flush_lsn()"))

    def active(self, slot: str) -> bool:
        """Whether somebody streams from the slot."""
        return bool(self._value("select active from pg_replication_slots where slot_name = %s", slot))

    def drop_slot(self, name: str) -> None:
        """Forget the slot and the WAL it keeps."""
        self._run(f"select pg_drop_replication_slot('{name}')")

    def _run(self, *statements: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def _value(self, query: str, *arguments: object) -> object:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(query, arguments).fetchone()
        return row[0] if row else None
