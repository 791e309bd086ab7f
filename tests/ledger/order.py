"""I3 and I5 within a partition: commits never run backwards, and a delete and its tombstone stand together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.ledger.lsn import show_lsn

if TYPE_CHECKING:
    from tests.ledger.seen import Place, Seen
    from tests.ledger.verdict import Verdict
    from tests.support.topics import Record


class _Partition:
    def __init__(self) -> None:
        self.previous_commit = 0
        self.position = (0, 0)
        self.deleted: bytes | None = None
        """Key of a delete whose tombstone has to come next."""
        self.last = ""


class Order:
    """Takes all records in the order of their partitions."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._partitions: dict[Place, _Partition] = {}

    def take(self, record: Record, event: Seen | None) -> None:
        """One record; `event`: what it is, None for a tombstone and for what cannot be read."""
        place = (record.topic, record.partition)
        partition = self._partitions.get(place)
        if partition is None:
            partition = self._partitions[place] = _Partition()
        where = f"{place} offset {record.offset}"
        self._tombstone(partition, record, where, deletes=event is not None and event.op == "d")
        if event is not None:
            self._commits(partition, event, where)

    def finish(self) -> None:
        """Nothing more comes."""
        for partition in self._partitions.values():
            if partition.deleted is not None:
                self._verdict.add("tombstones", f"none after {partition.last}")

    def _tombstone(self, partition: _Partition, record: Record, where: str, *, deletes: bool) -> None:
        if partition.deleted is not None and (record.value is not None or record.key != partition.deleted):
            self._verdict.add("tombstones", f"none after {partition.last}")
            partition.deleted = None
        if record.value is None:
            if partition.deleted is None:
                self._verdict.add("tombstones", f"{where}: {record.key!r} without a delete before it")
            partition.deleted = None
        elif deletes:
            partition.deleted, partition.last = record.key, where

    def _commits(self, partition: _Partition, event: Seen, where: str) -> None:
        if event.previous_commit < partition.previous_commit:
            self._verdict.add("reordered", f"{where} goes back to an older commit")
        elif event.commit_lsn is not None and (event.commit_lsn, event.number) < partition.position:
            said = f"{show_lsn(event.commit_lsn)}, {event.number}"
            self._verdict.add("reordered", f"{where} goes back to position {said}")
        partition.previous_commit = event.previous_commit
        if event.commit_lsn is not None:
            partition.position = (event.commit_lsn, event.number)
