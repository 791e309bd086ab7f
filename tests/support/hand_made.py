"""A small run made by hand, right in every respect, for tests that put something wrong into it.

Seven source transactions in three committed Kafka transactions and an aborted one, over two partitions:

  xid  LSN  changes                                   Kafka transaction
    9   50  accounts 1 (100) and 2 (0) are opened     first
   10  100  orders 1, 2, 3 are made                   first
   11  200  order 1 twice, order 2                    second; before that, aborted
   12  300  order 3 deleted, order 1                  second
   13  400  orders 1 and 2                            third
   14  500  30 moved from account 1 to 2              third
   15  600  order 2 gets the key 5                    third

99 was rolled back; so was a savepoint of 13, in which order 2 had version 77.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.ledger.checkpoints import Checkpoint
from tests.ledger.evidence import Evidence
from tests.ledger.outcomes import Expected, Transaction, collect
from tests.ledger.pipeline import Subject
from tests.ledger.tapes import Tape
from tests.support.partition_logs import Batch, Mark, PartitionLog
from tests.support.topics import Record
from tests.support.transaction_log import Decision

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.ledger.rows import Row
    from tests.ledger.seen import Place

TOPIC, PRODUCER, FUNDS = "t", 7, 100
_ORDER = {"status": "new", "total": "BNI=", "note": None, "created_at": "2024-01-02T03:04:05.678901Z"}
_PREVIOUS = {9: 0, 10: 60, 11: 110, 12: 210, 13: 310, 14: 410, 15: 510, 99: 310}
LSN = {9: 50, 10: 100, 11: 200, 12: 300, 13: 400, 14: 500, 15: 600, 99: 350}
NEW_KEY = 5


@dataclass
class Change:
    """One record, before it has an offset."""

    xid: int
    number: int
    table: str
    op: str
    id: int
    version: int = 0
    balance: int = 0
    old: int | None = None
    """The key it had before."""
    tombstone: bool = False
    partition: int = -1
    """-1 = what its key says."""
    lsn: int = 0
    """In the header, 0 = its transaction's."""

    def record(self, offset: int) -> Record:
        """As a consumer gets it."""
        place = self.partition if self.partition >= 0 else self.id % 2
        lsn, number = f"0/{self.lsn or LSN[self.xid]:X}", str(self.number)
        headers = [("deltaforge.commit_lsn", lsn.encode()), ("deltaforge.index", number.encode())]
        if self.old is not None:
            headers.append(("__debezium.oldkey", json.dumps({"id": self.old}).encode()))
        key = {"id": self.id, "__dbz__physicalTableIdentifier": f"x.public.{self.table}"}
        value = None if self.tombstone else json.dumps(self._value()).encode()
        return Record(place, offset, json.dumps(key).encode(), value, tuple(headers), TOPIC, 0)

    def row(self) -> Row | None:
        """As the writer would have noted it."""
        if self.op == "d":
            return None
        if self.table == "accounts":
            return (self.id, self.version, self.balance, None)
        return (self.id, self.version, "new", Decimal("12.34"), None, 1704164645678901, None, False)

    def _value(self) -> dict[str, Any]:
        after: dict[str, Any] | None = None
        if self.op != "d" and self.table == "accounts":
            after = {"id": self.id, "ver": self.version, "balance": self.balance, "memo": None}
        elif self.op != "d":
            after = {"id": self.id, "customer_id": self.version, **_ORDER, "updated_at": None, "gift": False}
        previous = _PREVIOUS[self.xid]
        source = {"table": self.table, "txId": self.xid, "sequence": json.dumps([str(previous or "") or None, "1"])}
        return {"before": None, "after": after, "source": source, "op": self.op}


@dataclass
class KafkaTransaction:
    """What lies between two markers."""

    changes: list[Change]
    decided_ms: int
    epoch: int = 1
    committed: bool = True
    epochs: set[int] = field(default_factory=set)
    """Of further producers that wrote in it."""


def _orders(xid: int, *events: tuple[str, int, int]) -> list[Change]:
    """Args: events: op, id and version; a delete has its tombstone behind it."""
    changes: list[Change] = []
    for number, (op, order, version) in enumerate(events):
        changes.append(Change(xid, number, "orders", op, order, version))
        if op == "d":
            changes.append(Change(xid, number, "orders", op, order, tombstone=True))
    return changes


def _accounts(xid: int, op: str, version: int, *balances: int) -> list[Change]:
    return [
        Change(xid, number, "accounts", op, number + 1, version, balance) for number, balance in enumerate(balances)
    ]


def _changed_key(xid: int, old: int, new: int, version: int) -> list[Change]:
    return [
        Change(xid, 0, "orders", "d", old),
        Change(xid, 0, "orders", "d", old, tombstone=True),
        Change(xid, 0, "orders", "c", new, version, old=old),
    ]


class HandMade:
    """The run; every part may be changed before `evidence` is asked for."""

    def __init__(self) -> None:
        opened, made = _accounts(9, "c", 1, 100, 0), _orders(10, ("c", 1, 1), ("c", 2, 1), ("c", 3, 1))
        second = [*_orders(11, ("u", 1, 2), ("u", 1, 3), ("u", 2, 2)), *_orders(12, ("d", 3, 0), ("u", 1, 4))]
        third = _orders(13, ("u", 1, 5), ("u", 2, 3)) + _accounts(14, "u", 2, 70, 30) + _changed_key(15, 2, NEW_KEY, 4)
        self.first = KafkaTransaction([*opened, *made], 1000)
        self.aborted = KafkaTransaction(_orders(11, ("u", 1, 2), ("u", 1, 3)), 2000, committed=False)
        self.second = KafkaTransaction(second, 3000, epoch=2)
        self.third = KafkaTransaction(third, 4000, epoch=2)
        self.kafka = [self.first, self.aborted, self.second, self.third]
        self.expected = self.expect()
        self.tables: dict[str, list[Row]] = {
            "orders": [_row("orders", 1, 5), _row("orders", NEW_KEY, 4)],
            "accounts": [(1, 2, 70, None), (2, 2, 30, None)],
        }
        self.checkpoints = [
            Checkpoint(0, 900, "born", 0, 0, -9, None, 40),
            Checkpoint(1, 990, "running", 1, 100, 3, 10, 110),
            Checkpoint(3, 2990, "running", 2, 300, 2, 12, 310),
            Checkpoint(5, 3990, "running", 3, 600, 1, 15, 610),
        ]
        self.samples = [(950, 40), (1010, 110), (2500, 110), (3010, 310), (4000, 610)]
        self.ends_behind = 0
        self.state = "CompleteCommit"

    def evidence(self) -> Evidence:
        """Lay it out in partitions, and look at it as it then is."""
        everything: list[Record] = []
        committed: list[Record] = []
        logs: dict[Place, PartitionLog] = {(TOPIC, 0): PartitionLog(), (TOPIC, 1): PartitionLog()}
        ends = dict.fromkeys(logs, 0)
        decisions = []
        for transaction in self.kafka:
            written = _lay_out(transaction, logs, ends)
            everything += written
            committed += written if transaction.committed else []
            places = frozenset((TOPIC, record.partition) for record in written)
            decisions.append(
                Decision(transaction.decided_ms, PRODUCER, transaction.epoch, transaction.committed, places)
            )
        return Evidence(
            subject=Subject("hand-made", (TOPIC,), "slot"),
            records=committed,
            everything=lambda: everything,
            live=lambda _: tape_of(committed),
            java=lambda _: tape_of(committed),
            logs=logs,
            decisions=decisions,
            state=self.state,
            ends={place: (end - self.ends_behind, end) for place, end in ends.items()},
            checkpoints=self.checkpoints,
            damaged=[],
            samples=self.samples,
            tables=self.tables.items(),
        )

    def expect(self) -> Expected:
        """What the writers would say, had they done what the committed Kafka transactions hold now."""
        transactions: dict[int, Transaction] = {}
        committed = [change for each in self.kafka if each.committed for change in each.changes]
        for at, change in enumerate(change for change in committed if not change.tombstone):
            transaction = transactions.setdefault(change.xid, Transaction(change.xid, change.xid))
            key = (change.table, (change.id,))
            transaction.record(key, change.op, change.row(), at, joined=change.old is not None)
        savepoint = Transaction(13, 13)
        savepoint.record(("orders", (2,)), "u", _row("orders", 2, 77), 0)
        withdrawn = [event.digest for event in savepoint.levels[0].events]
        transactions[13].withdrawn = withdrawn
        return collect(transactions.values(), [99], funds=FUNDS)


def tape_of(records: Iterable[Record]) -> Tape:
    """A reader that saw these."""
    tape = Tape("other reader")
    for record in records:
        tape.add(record)
    return tape


def _row(table: str, number: int, version: int) -> Row:
    row = Change(0, 0, table, "u", number, version).row()
    assert row is not None
    return row


def _lay_out(transaction: KafkaTransaction, logs: dict[Place, PartitionLog], ends: dict[Place, int]) -> list[Record]:
    written: list[Record] = []
    for change in transaction.changes:
        place = (TOPIC, change.record(0).partition)
        record = change.record(ends[place])
        ends[place] += 1
        written.append(record)
        logs[place].add(Batch(record.offset, record.offset, 1, PRODUCER, transaction.epoch, transactional=True))
    for place in sorted({(TOPIC, record.partition) for record in written}):
        for epoch in transaction.epochs:
            logs[place].add(Batch(ends[place], ends[place], 0, PRODUCER, epoch, transactional=True))
        # A successor aborts under its own epoch.
        epoch = transaction.epoch + (not transaction.committed)
        logs[place].end(Mark(ends[place], transaction.decided_ms + 5, PRODUCER, epoch, transaction.committed))
        ends[place] += 1
    return written
