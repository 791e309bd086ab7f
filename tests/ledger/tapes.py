"""I7 and I10: what several readers saw, record by record, kept as offsets and digests."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.ledger.seen import Place
    from tests.ledger.verdict import Verdict
    from tests.support.partition_logs import PartitionLog
    from tests.support.topics import Record

_MASK = (1 << 64) - 1


class Tape:
    """What one reader saw, in order within each partition. Digests compare within one process only."""

    def __init__(self, name: str) -> None:
        """`name`: for messages."""
        self.name = name
        self.count = 0
        self.offsets: dict[Place, array[int]] = {}
        self._digests: dict[Place, array[int]] = {}

    def add(self, record: Record) -> None:
        """The next record of its partition."""
        self.note((record.topic, record.partition), record.offset, record.key, record.value)

    def note(self, place: Place, offset: int, key: bytes | None, value: bytes | None) -> None:
        """The same, in pieces."""
        if place not in self.offsets:
            self.offsets[place], self._digests[place] = array("q"), array("Q")
        self.offsets[place].append(offset)
        self._digests[place].append(hash((key, value)) & _MASK)
        self.count += 1

    def differences(self, other: Tape) -> Iterator[str]:
        """What the other saw otherwise, a line for each; a record that only one saw is one line."""
        for place in sorted(self.offsets.keys() | other.offsets.keys()):
            ours, theirs = self._of(place), other._of(place)
            if ours == theirs:
                continue
            left, right = dict(zip(*ours, strict=True)), dict(zip(*theirs, strict=True))
            for offset in sorted(left.keys() ^ right.keys()):
                who = self.name if offset in left else other.name
                yield f"{place} offset {offset}: only the {who} saw it"
            for offset in sorted(left.keys() & right.keys()):
                if left[offset] != right[offset]:
                    yield f"{place} offset {offset}: the {self.name} and the {other.name} saw other bytes"
            if len(left) < len(ours[0]) or len(right) < len(theirs[0]) or list(left) != sorted(left):
                yield f"{place}: a reader went back"

    def _of(self, place: Place) -> tuple[array[int], array[int]]:
        return self.offsets.get(place, array("q")), self._digests.get(place, array("Q"))


def judge_agreement(left: Tape, right: Tape, verdict: Verdict) -> None:
    """I7: two readers saw the same."""
    verdict.look("I7", max(left.count, right.count))
    for difference in left.differences(right):
        verdict.add("readers", difference)


def judge_isolation(committed: Tape, everything: Tape, logs: Mapping[Place, PartitionLog], verdict: Verdict) -> None:
    """I10: what only the reader of everything saw is what was aborted, neither more nor less."""
    verdict.look("I10", everything.count)
    for place, log in logs.items():
        seen = set(committed.offsets.get(place, ()))
        all_ = set(everything.offsets.get(place, ()))
        for offset in sorted(seen - all_):
            verdict.add("hidden", f"{place} offset {offset}: only committed readers see it")
        due = {offset for offset in all_ if log.outcome(offset) in ("committed", "plain")}
        for offset in sorted(all_ & seen - due):
            verdict.add("hidden", f"{place} offset {offset} is {log.outcome(offset)}, and committed readers see it")
        for offset in sorted(due - seen):
            verdict.add("hidden", f"{place} offset {offset} is committed, and committed readers do not see it")
        missing = log.count("committed") + log.count("plain") - len(due)
        verdict.add("hidden", f"{place}: {missing} committed records that nobody sees", missing)
