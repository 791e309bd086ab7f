"""One seeded writer: it makes up transactions, and each change is recorded with the row it left.

The dice of a transaction come from the seed, the writer and the transaction's number alone: a run with the same seed
makes the same decisions, also after a transaction that a fault undid.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tests.ledger import money, private, shapes
from tests.ledger.outcomes import Transaction
from tests.ledger.turn import BLOCK, STRIDE, Desk, Turn

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True)
class Plan:
    """What a writer mixes."""

    max_rows: int = 400
    """Of a transaction, rolled back savepoints not counted; most are far smaller."""
    key_changes: bool = True
    rollbacks: float = 0.1
    """Share of transactions rolled back."""
    big: float = 0.01
    """Share of orders with a value out of line."""
    ledger: bool = False
    """Accounts, transfers and the table whose columns change, besides the example's three tables."""
    reshapes: float = 0.02
    """With `ledger`: share of transactions that change columns."""
    prepared: float = 0.08
    """With `ledger`: share of transactions committed or rolled back in two phases."""


FULL = Plan(max_rows=5000, ledger=True)
"""Everything there is."""


class Ending(Enum):
    """How a transaction is to end."""

    COMMIT = "commit"
    ROLLBACK = "rollback"
    PREPARED = "prepare transaction, commit prepared"
    PREPARED_ROLLBACK = "prepare transaction, rollback prepared"
    LATER = "prepare transaction; commit prepared some transactions later"


class Writer:
    """Makes up and runs transactions, one at a time."""

    def __init__(self, number: int, seed: int, plan: Plan) -> None:
        self.number = number
        self._seed, self._plan = seed, plan
        self._count = 0
        self._desk = Desk()
        self._shared = {("orders", (private.HOT_ORDER,)), *money.shared_keys()}

    def begin(self) -> Transaction:
        """A new transaction with a token of its own."""
        self._count += 1
        return Transaction(token=self.number * STRIDE + self._count)

    def run(self, connection: psycopg.Connection, transaction: Transaction, *, prepare: bool = False) -> Ending:
        """Run the statements of one transaction. Returns how it is to end, which is the caller's to do.

        Args: prepare: whether the server takes prepared transactions.
        """
        count = transaction.token % STRIDE
        rng = random.Random(f"{self._seed}/{self.number}/{count}")
        turn = Turn(connection, transaction, rng, self._desk, self.number * STRIDE + count * BLOCK)
        ending = self._ending(rng)
        transaction.xid = money.write_transfer(turn) if self._plan.ledger else _write_token(turn)
        wanted = self._size(rng)
        if ending is Ending.LATER:
            # What it locks stays locked while its writer goes on: new rows only.
            while transaction.rows < wanted:
                private.add(turn, min(wanted - transaction.rows, 120), rng.random() * 0.6, big=self._plan.big)
        else:
            self._work(turn, wanted, hot=ending is not Ending.ROLLBACK)
        if not prepare and ending in (Ending.PREPARED, Ending.LATER):
            return Ending.COMMIT
        return Ending.ROLLBACK if not prepare and ending is Ending.PREPARED_ROLLBACK else ending

    def settle(self, transaction: Transaction) -> None:
        """Take a committed transaction's keys over into what lives."""
        self._desk.settle(transaction, self._shared)

    def forget(self) -> None:
        """Never touch any key so far again: nobody knows how the last transaction ended."""
        self._desk = Desk()

    def _ending(self, rng: random.Random) -> Ending:
        plan, dice = self._plan, rng.random()
        if dice < plan.rollbacks:
            return Ending.ROLLBACK
        if plan.ledger and dice < plan.rollbacks + plan.prepared:
            return rng.choice((Ending.PREPARED, Ending.PREPARED_ROLLBACK, Ending.LATER))
        return Ending.COMMIT

    def _size(self, rng: random.Random) -> int:
        dice, most = rng.random(), self._plan.max_rows
        if dice < 0.55:
            return rng.randint(1, 5)
        if dice < 0.9:
            return rng.randint(5, max(5, min(80, most)))
        return rng.randint(1, min(400, most) if dice < 0.985 else most)

    def _work(self, turn: Turn, wanted: int, *, hot: bool) -> None:
        plan, rng = self._plan, turn.rng
        if plan.ledger:
            dice = rng.random()
            if dice < plan.reshapes:
                shapes.reshape(turn)
            elif dice < 0.2:
                shapes.write(turn)
        self._rows(turn, wanted)
        if plan.ledger and rng.random() < 0.7:
            money.move(turn)
        if hot and rng.random() < 0.1:
            private.touch_hot(turn)

    def _rows(self, turn: Turn, wanted: int) -> None:
        rng, transaction = turn.rng, turn.transaction
        together = 120 if wanted <= 400 else 1500
        while (left := wanted - transaction.rows) > 0:
            if left > 3 and rng.random() < 0.1:
                with turn.savepoint():
                    for _ in range(rng.randint(1, 3)):
                        self._change(turn, max(1, left // 4), together)
                    if rng.random() < 0.2:
                        with turn.savepoint():
                            self._change(turn, max(1, left // 8), together)
            else:
                self._change(turn, left, together)

    def _change(self, turn: Turn, left: int, together: int) -> None:
        plan = self._plan
        private.change(turn, left, big=plan.big, key_changes=plan.key_changes, together=together)


def _write_token(turn: Turn) -> int:
    sql = "insert into workload_transactions values (%s) returning pg_current_xact_id()::text::numeric %% 4294967296"
    row = turn.execute(sql, [turn.transaction.token]).fetchone()
    assert row is not None
    return int(row[0])
