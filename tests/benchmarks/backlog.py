"""A PostgreSQL with a known backlog: rows that wait in a slot, of which every run gets a copy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

import psycopg

from deltaforge.model import Lsn
from tests.benchmarks.workloads import PUBLICATION, TABLE

if TYPE_CHECKING:
    from tests.benchmarks.workloads import Workload

_BASE = "bench_base"
_LAST = "bench_last"
_LAST_ROW = f"""select max(lsn) from pg_logical_slot_peek_binary_changes(
  '{_LAST}', null, null, 'proto_version', '1', 'publication_names', '{PUBLICATION}')
  where get_byte(data, 0) in (ascii('I'), ascii('U'))"""
_LET_GO_S = 60.0
_ALL_BUT_LAST = """do $$ begin
  for part in 0 .. {parts} - 2 loop
    {change};
    commit;
  end loop;
end $$"""


class Backlog:
    """One workload's table and rows, and the slots on them; all of it goes away at the end."""

    def __init__(self, dsn: str, workload: Workload) -> None:
        """Connect; nothing is made before the `with` block."""
        self.dsn = dsn
        self.before_last = Lsn(0)
        """A WAL position that only the last transaction is past."""
        self.end = Lsn(0)
        """The WAL position after the last transaction."""
        self._workload = workload
        self._connection: psycopg.Connection[Any] = psycopg.connect(dsn, autocommit=True)

    def begin(self, rows: int) -> None:
        """Make the slot that keeps what is written from now on; before that, the rows that will be updated."""
        if self._workload.updates:
            self._run(self._workload.insert("1", str(rows)), f"vacuum analyze {TABLE}")
        self._run(f"select pg_create_logical_replication_slot('{_BASE}', 'pgoutput')")

    def load(self, rows: int) -> None:
        """Write the backlog, then a checkpoint: what is left to write would be written during the first run."""
        workload = self._workload
        each = workload.per_transaction or rows
        parts = rows // each
        change = workload.change(f"part * {each} + 1", f"part * {each} + {each}")
        self._run("set synchronous_commit = off", _ALL_BUT_LAST.format(parts=parts, change=change))
        self._run("set synchronous_commit = on", f"select pg_create_logical_replication_slot('{_LAST}', 'pgoutput')")
        self.before_last = Lsn.parse(str(self._value("select pg_current_wal_insert_lsn()")))
        self._run(workload.change(str((parts - 1) * each + 1), str(rows)))
        self.end = Lsn.parse(str(self._value("select pg_current_wal_flush_lsn()")))
        self._run("checkpoint")

    def last_row(self) -> Lsn:
        """The WAL position of the last row, which lies before that of its COMMIT."""
        return Lsn.parse(str(self._value(_LAST_ROW)))

    def make_slot(self, name: str) -> str:
        """A slot that stands before the backlog. Returns the position it confirms."""
        self._value("select pg_copy_logical_replication_slot(%s, %s)", _BASE, name)
        return str(self._value("select confirmed_flush_lsn from pg_replication_slots where slot_name = %s", name))

    def active(self, slot: str) -> bool:
        """Whether somebody streams from the slot."""
        return bool(self._value("select active from pg_replication_slots where slot_name = %s", slot))

    def drop_slot(self, name: str) -> None:
        """Forget the slot, once its walsender has seen that the reader is gone."""
        deadline = time.monotonic() + _LET_GO_S
        while self.active(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"slot {name} is still being read")
            time.sleep(0.01)
        self._value("select pg_drop_replication_slot(%s)", name)

    def __enter__(self) -> Self:
        self._run(*self._workload.tables())
        return self

    def __exit__(self, *_: object) -> None:
        self._value("select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots where not active")
        self._run(f"drop publication {PUBLICATION}", f"drop table {TABLE}, filler", "checkpoint")
        self._connection.close()

    def _run(self, *statements: str) -> None:
        for statement in statements:
            self._connection.execute(statement.encode())

    def _value(self, query: str, *arguments: object) -> object:
        row = self._connection.execute(query.encode(), arguments or None).fetchone()
        return row[0] if row else None
