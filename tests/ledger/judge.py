"""Judge what a consumer saw against what the writers did.

    judge = Judge(expected)
    for record in records: judge.take(record)      # in offset order within each partition
    verdict = judge.finish()

Records are looked at one at a time and not kept. What the evidence of a whole run says besides is asked by
`tests.ledger.witness`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.ledger.histories import Histories
from tests.ledger.homes import Homes
from tests.ledger.order import Order
from tests.ledger.replay import Replay
from tests.ledger.seen import UNREADABLE, Seen, seen
from tests.ledger.transactions import Transactions
from tests.ledger.verdict import Verdict
from tests.support.partition_logs import Mark, PartitionLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.ledger.checkpoints import Coverage
    from tests.ledger.outcomes import Expected
    from tests.ledger.seen import Place
    from tests.support.topics import Marker, Record


class Judge:
    """I1 to I6, and the part of I8 that is about events."""

    def __init__(
        self,
        expected: Expected,
        *,
        homes: Homes | None = None,
        coverage: Coverage | None = None,
        split: bool = False,
        verdict: Verdict | None = None,
    ) -> None:
        """Look at nothing yet.

        Args:
          homes: where records lie; without it nothing is said of Kafka transactions.
          coverage: the checkpoints; needs `homes`.
          split: whether a source transaction may be in several Kafka transactions.
        """
        self.verdict = verdict = verdict or Verdict()
        self._order = Order(verdict)
        self._histories = Histories(expected, verdict)
        self._transactions = Transactions(expected, verdict, homes, coverage, split=split)
        self._replay = Replay(expected, verdict)

    def take(self, record: Record) -> None:
        """One record."""
        event = None
        if record.value is None:
            self.verdict.tombstones += 1
        else:
            self.verdict.events += 1
            event = self._read(record)
        self._order.take(record, event)
        if event is not None:
            self._histories.take(event)
            self._transactions.take(event)
            self._replay.take(event)

    def finish(self, tables: Iterable[tuple[str, Iterable[tuple[Any, ...]]]] | None = None) -> Verdict:
        """Nothing more comes. Args: tables: names and canonical rows of PostgreSQL's tables (`tables_of`)."""
        self._order.finish()
        self._histories.finish()
        self._transactions.finish()
        self._replay.finish(tables)
        return self.verdict

    def _read(self, record: Record) -> Seen | None:
        try:
            return seen(record)
        except UNREADABLE as error:
            self.verdict.add("unreadable", f"partition {record.partition} offset {record.offset}: {error!r}")
            return None


def judge(records: Iterable[Record], expected: Expected, marks: Iterable[Marker] = ()) -> Verdict:
    """Compare a topic's committed records, in offset order per partition, with the writers' ledger.

    `marks`: the topic's transaction markers; with them a source transaction in two Kafka transactions is found too.
    """
    logs: dict[Place, PartitionLog] = defaultdict(PartitionLog)
    for mark in marks:
        place = (mark.topic, mark.partition)
        logs[place].end(Mark(mark.offset, 0, mark.producer_id, mark.producer_epoch, mark.committed))
    judge = Judge(expected, homes=Homes(logs) if logs else None)
    for record in records:
        judge.take(record)
    return judge.finish()
