"""Writers under load, and the exact list of what consumers must see of their work.

    with Workload(dsn, seed=7) as load:      # make_tables(dsn) before
        load.wait_for_rows(200_000)
    expected = load.expected()

With `plan=FULL` (and `make_tables(dsn, ledger=True)`) they do everything there is. A server that goes away is waited
for; the transaction it went away with is decided by its token at the end.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

import psycopg

from tests.ledger import money
from tests.ledger.outcomes import Expected, Ledger, Transaction
from tests.ledger.prepared import Prepared
from tests.ledger.private import HOT_ORDER
from tests.ledger.rows import COLUMNS, canonical, schema_statements
from tests.ledger.writer import Ending, Plan, Writer

if TYPE_CHECKING:
    from psycopg import Connection

BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
"""What undoes a transaction though the connection lives."""
_LOCKS = "-c lock_timeout=2s"
"""A prepared transaction, of this writer or another, may hold a key for as long as somebody waits for it."""
_AGAIN_S = 0.2
_PATIENCE_S = 120.0
"""How long a stopped writer waits for a server that still has a prepared transaction of its own."""
_TWO_PHASES = (Ending.PREPARED, Ending.PREPARED_ROLLBACK, Ending.LATER)


def make_tables(dsn: str, *, ledger: bool = False) -> None:
    """Create the example's three tables, the transactions' own table and the publication `orders_pub`.

    Args: ledger: with the tables that `Plan(ledger=True)` writes to, published as well.
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in schema_statements(ledger=ledger):
            connection.execute(statement)


class Workload:
    """Some writers, each in a thread with a connection of its own."""

    def __init__(
        self, dsn: str, *, seed: int, writers: int = 3, rows_per_s: float | None = None, plan: Plan | None = None
    ) -> None:
        """Nothing happens before `start`. `rows_per_s`: for all writers together; None = as fast as they can."""
        self._dsn = dsn
        self._plan = plan or Plan()
        self._ledger = Ledger(money.TOKENS) if self._plan.ledger else Ledger()
        self._rate = rows_per_s / writers if rows_per_s else None
        self._writers = [Writer(number, seed, self._plan) for number in range(1, writers + 1)]
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._prepare = False
        self._give_up = 0.0

    @property
    def rows(self) -> int:
        """Row changes tried so far, rolled back ones included."""
        return self._ledger.rows

    @property
    def events(self) -> int:
        """Events with a value that committed transactions amount to so far."""
        return self._ledger.events

    def start(self) -> None:
        """Write what is shared, then let the writers loose."""
        with psycopg.connect(self._dsn) as connection:
            self._open(connection)
        self._threads = [threading.Thread(target=self._work, args=[writer]) for writer in self._writers]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every writer end its transaction.

        Raises: the first error of a writer that was not a server going away.
        """
        self._give_up = time.monotonic() + _PATIENCE_S
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
        expected = self._ledger.expected(self._dsn)
        if self._plan.ledger:
            money.check(expected)
        return expected

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _open(self, connection: Connection) -> None:
        """The rows that all writers share, in one transaction of nobody's."""
        (slots,) = connection.execute("show max_prepared_transactions").fetchone() or ("0",)
        self._prepare = int(slots) > 0
        transaction = Transaction(token=HOT_ORDER)
        names = ", ".join(COLUMNS["orders"])
        sql = f"insert into orders (id, customer_id, total, created_at) values (%s, 1, 0, now()) returning {names}"
        row = connection.execute(sql, [HOT_ORDER]).fetchone()
        assert row is not None
        transaction.record(("orders", (HOT_ORDER,)), "c", canonical("orders", row), 1)
        transaction.rows += 1
        if self._plan.ledger:
            self._ledger.funds = money.open_shared(connection, transaction)
            connection.execute("insert into transfers values (0, %s, 0, 0, 0)", [transaction.token])
            transaction.record(("transfers", (0, transaction.token)), "c", (0, transaction.token, 0, 0, 0), 1)
        else:
            connection.execute("insert into workload_transactions values (%s)", [transaction.token])
        (transaction.xid,) = connection.execute("select pg_current_xact_id()::text::int8 % 4294967296").fetchone() or ()
        connection.commit()
        self._ledger.committed(transaction)

    def _work(self, writer: Writer) -> None:
        prepared = Prepared(self._ledger, writer)
        try:
            while not self._stop.is_set() or prepared.waiting:
                try:
                    with psycopg.connect(self._dsn, autocommit=True, options=_LOCKS) as connection:
                        prepared.recover(connection)
                        self._write(writer, connection, prepared)
                except psycopg.OperationalError:
                    time.sleep(_AGAIN_S)
                    if self._stop.is_set() and time.monotonic() > self._give_up:
                        raise
        except Exception as error:
            self._failures.append(error)

    def _write(self, writer: Writer, connection: Connection, prepared: Prepared) -> None:
        began, written = time.monotonic(), 0
        while not self._stop.is_set():
            transaction = writer.begin()
            try:
                self._run_one(writer, connection, transaction, prepared)
            except BUSY:
                connection.execute("rollback")
            written += transaction.rows
            prepared.settle_due(connection)
            if self._rate:
                self._stop.wait(max(0.0, began + written / self._rate - time.monotonic()))
        prepared.settle_all(connection)

    def _run_one(self, writer: Writer, connection: Connection, transaction: Transaction, prepared: Prepared) -> None:
        try:
            connection.execute("begin")
            ending = writer.run(connection, transaction, prepare=self._prepare)
            if ending is Ending.ROLLBACK:
                connection.execute("rollback")
        except BaseException:
            self._ledger.undone(transaction)
            raise
        if ending is Ending.ROLLBACK:
            self._ledger.undone(transaction)
        elif ending in _TWO_PHASES:
            prepared.run(connection, transaction, ending)
        else:
            self._commit(writer, connection, transaction)

    def _commit(self, writer: Writer, connection: Connection[Any], transaction: Transaction) -> None:
        try:
            connection.execute("commit")
        except psycopg.OperationalError:
            self._ledger.unknown(transaction)
            writer.forget()
            raise
        writer.settle(transaction)
        self._ledger.committed(transaction)
