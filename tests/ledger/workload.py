"""Writers under load, and the exact list of what consumers must see of their work.

    with Workload(dsn, seed=7) as load:      # make_tables(dsn) before
        load.wait_for_rows(200_000)
    expected = load.expected()

A server that goes away is waited for; the transaction it went away with is decided by its token at the end.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import psycopg

from tests.ledger.outcomes import Expected, Ledger, Transaction
from tests.ledger.rows import COLUMNS, canonical, schema_statements
from tests.ledger.writer import HOT_ORDER, Plan, Writer

if TYPE_CHECKING:
    from psycopg import Connection


def make_tables(dsn: str) -> None:
    """Create the three tables, the transactions' own table and the publication `orders_pub`."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in schema_statements():
            connection.execute(statement)


class Workload:
    """Some writers, each in a thread with a connection of its own."""

    def __init__(
        self, dsn: str, *, seed: int, writers: int = 3, rows_per_s: float | None = None, plan: Plan | None = None
    ) -> None:
        """Nothing happens before `start`. `rows_per_s`: for all writers together; None = as fast as they can."""
        self._dsn = dsn
        self._ledger = Ledger()
        self._rate = rows_per_s / writers if rows_per_s else None
        plan = plan or Plan()
        self._writers = [Writer(number, seed, plan) for number in range(1, writers + 1)]
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._failures: list[BaseException] = []

    @property
    def rows(self) -> int:
        """Row changes tried so far, rolled back ones included."""
        return self._ledger.rows

    @property
    def events(self) -> int:
        """Events with a value that committed transactions amount to so far."""
        return self._ledger.events

    def start(self) -> None:
        """Write the shared order, then let the writers loose."""
        self._make_hot_order()
        self._threads = [threading.Thread(target=self._work, args=[writer]) for writer in self._writers]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every writer end its transaction.

        Raises: the first error of a writer that was not a server going away.
        """
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def wait_for_rows(self, rows: int, seconds: float = 600.0) -> None:
        """Block until so many row changes were tried. Raises TimeoutError, or a writer's error."""
        deadline = time.monotonic() + seconds
        while self.rows < rows:
            if self._failures:
                raise self._failures[0]
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.rows} of {rows} rows written after {seconds} s")
            self._stop.wait(0.05)

    def expected(self) -> Expected:
        """What a consumer must see now. Call it after `stop`."""
        return self._ledger.expected(self._dsn)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _make_hot_order(self) -> None:
        names = ", ".join(COLUMNS["orders"])
        sql = f"insert into orders (id, customer_id, total, created_at) values (%s, 1, 0, now()) returning {names}"
        transaction = Transaction(token=HOT_ORDER)
        with psycopg.connect(self._dsn) as connection:
            row = connection.execute(sql, [HOT_ORDER]).fetchone()
            xid = connection.execute("select pg_current_xact_id()::text::numeric % 4294967296").fetchone()
        assert row is not None
        assert xid is not None
        transaction.xid = int(xid[0])
        transaction.record(("orders", (HOT_ORDER,)), "c", canonical("orders", row), 1)
        transaction.rows = 1
        self._ledger.committed(transaction)

    def _work(self, writer: Writer) -> None:
        try:
            while not self._stop.is_set():
                try:
                    with psycopg.connect(self._dsn, autocommit=True) as connection:
                        self._write(writer, connection)
                except psycopg.OperationalError:
                    self._stop.wait(0.2)
        except Exception as error:
            self._failures.append(error)

    def _write(self, writer: Writer, connection: Connection) -> None:
        began, written = time.monotonic(), 0
        while not self._stop.is_set():
            transaction = writer.begin()
            self._run_one(writer, connection, transaction)
            written += transaction.rows
            if self._rate:
                self._stop.wait(max(0.0, began + written / self._rate - time.monotonic()))

    def _run_one(self, writer: Writer, connection: Connection, transaction: Transaction) -> None:
        try:
            connection.execute("begin")
            commit = writer.run(connection, transaction)
            if not commit:
                connection.execute("rollback")
        except BaseException:
            self._ledger.undone(transaction)
            raise
        if not commit:
            self._ledger.undone(transaction)
            return
        try:
            connection.execute("commit")
        except psycopg.OperationalError:
            self._ledger.unknown(transaction)
            writer.forget()
            raise
        writer.settle(transaction)
        self._ledger.committed(transaction)
