"""I8 and I9: the records of the checkpoint topic, told apart from the JSON they are written in.

I8: sequence numbers, positions and the LSN that may be confirmed only rise; each Kafka transaction holds one record,
which covers exactly the events beside it; the last one covers the last event.
I9: whatever PostgreSQL says is confirmed was in a checkpoint that Kafka had already decided to commit.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_left
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tests.ledger.lsn import parse_lsn, show_lsn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.ledger.homes import Homes
    from tests.ledger.outcomes import Expected
    from tests.ledger.seen import Place, Seen
    from tests.ledger.verdict import Verdict

_TAIL = len(b',"crc32":"01234567"}')


class Checkpoint(NamedTuple):
    """One record."""

    offset: int
    time_ms: int
    """When it was written."""
    state: str
    seq: int
    commit_lsn: int
    number: int
    """Of the last event it covers; the number of events of the transaction when it is finished."""
    xid: int | None
    """Of the transaction at commit_lsn."""
    flush_lsn: int


def parse_checkpoint(offset: int, time_ms: int, key: bytes | None, value: bytes | None) -> Checkpoint:
    """Read a record. Raises ValueError or KeyError when it is damaged."""
    value = value or b""
    if value[-_TAIL:] != b',"crc32":"%08x"}' % zlib.crc32(value[:-_TAIL]):
        raise ValueError(f"the checkpoint at offset {offset} has a wrong checksum")
    said = json.loads(value)
    if key != said["state"].encode():
        raise ValueError(f"the checkpoint at offset {offset} has the key {key!r}")
    anchor = said["anchor"] or {}
    position = parse_lsn(said["commit_lsn"]), said["event_index"]
    return Checkpoint(
        offset, time_ms, said["state"], said["seq"], *position, anchor.get("xid"), parse_lsn(said["flush_lsn"])
    )


class Trail:
    """All committed checkpoints of one sink, in order, and when each was decided."""

    def __init__(self, checkpoints: Iterable[Checkpoint], homes: Homes, place: Place) -> None:
        """`place`: the partition they are in; `homes` knows the decisions on the sink's transactions."""
        all_, decisions = list(checkpoints), homes.decisions
        self.running = [checkpoint for checkpoint in all_ if checkpoint.state == "running"]
        self.born = [checkpoint for checkpoint in all_ if checkpoint.state == "born"]
        self._homes, self._place, self._decisions = homes, place, decisions
        self._times = [decision.time_ms for decision in decisions]
        self.transactions = [self._decided(checkpoint) for checkpoint in self.running]
        """For each running one, the number of the decision that committed it; None = not known."""

    def judge(self, verdict: Verdict, expected: Expected | None = None) -> None:
        """I8, as far as it can be told without the events."""
        for before, after in pairwise(self.running):
            for what in ("seq", "commit_lsn", "number", "flush_lsn"):
                self._rises(verdict, before, after, what)
        self._judge_transactions(verdict)
        verdict.look("I8", len(self.running))
        if expected is not None and self.running:
            last = self.running[-1]
            extent = None if last.xid is None else expected.transactions.get(last.xid)
            if extent is not None and last.number != extent.changes:
                verdict.add("checkpoint", f"the last one is at {last.number} of {extent.changes} changes of {last.xid}")

    def durable_at(self, flush_lsn: int) -> int | None:
        """When it was decided that so much may be confirmed, as milliseconds since 1970; None = never."""
        if any(flush_lsn <= born.flush_lsn for born in self.born):
            return 0
        place = bisect_left(self.running, flush_lsn, key=lambda checkpoint: checkpoint.flush_lsn)
        if place == len(self.running):
            return None
        number = self.transactions[place]
        return self.running[place].time_ms if number is None else self._times[number]

    def _rises(self, verdict: Verdict, before: Checkpoint, after: Checkpoint, what: str) -> None:
        low, high = getattr(before, what), getattr(after, what)
        if what == "number" and before.commit_lsn != after.commit_lsn:
            return
        if high < low or (what == "seq" and high == low):
            verdict.add("checkpoint", f"{what} of the one at offset {after.offset} is {high} after {low}")

    def _decided(self, checkpoint: Checkpoint) -> int | None:
        known = self._homes.home(self._place, checkpoint.offset).transaction
        if known is not None:
            return known
        # Compaction took its batch from the log. It was written while its transaction was open, so that the next
        # decision is its own, if the writer's clock is the coordinator's.
        number = bisect_left(self._times, checkpoint.time_ms)
        return number if number < len(self._times) else None

    def _judge_transactions(self, verdict: Verdict) -> None:
        if not self._decisions:
            return
        known = Counter(number for number in self.transactions if number is not None)
        for number, count in known.items():
            if count > 1:
                verdict.add("checkpoint", f"{count} in the Kafka transaction committed at {self._times[number]} ms")
        between = range(min(known, default=0), max(known, default=-1) + 1)
        committed = {number for number in between if self._decisions[number].committed}
        for number in sorted(committed - set(known)):
            verdict.add("checkpoint", f"none in the Kafka transaction committed at {self._times[number]} ms")
        for number in sorted(set(known) - committed):
            verdict.add("checkpoint", f"a committed one in the Kafka transaction aborted at {self._times[number]} ms")


class Coverage:
    """I8, event by event: the Kafka transaction of an event is the one whose checkpoint is the first to cover it."""

    def __init__(self, trail: Trail, verdict: Verdict) -> None:
        self._trail, self._verdict = trail, verdict
        self._positions = [(each.commit_lsn, each.number) for each in trail.running]

    def check(self, event: Seen, transaction: int) -> None:
        """One event with a position header, and the number of the decision that made it visible."""
        if event.commit_lsn is None:
            return
        place = bisect_left(self._positions, (event.commit_lsn, event.number))
        where = f"{event.place} offset {event.offset} at {show_lsn(event.commit_lsn)}, {event.number}"
        if place == len(self._positions):
            self._verdict.add("checkpoint", f"none covers {where}")
        elif self._trail.transactions[place] not in (None, transaction):
            self._verdict.add("checkpoint", f"{where} is covered by another Kafka transaction's")


def judge_samples(samples: Iterable[tuple[int, int]], trail: Trail, verdict: Verdict) -> None:
    """I9. Args: samples: milliseconds since 1970 *after* PostgreSQL had answered, and what it said is confirmed."""
    judged: dict[int, int | None] = {}
    for time_ms, confirmed in samples:
        verdict.look("I9")
        if confirmed not in judged:
            judged[confirmed] = trail.durable_at(confirmed)
        durable = judged[confirmed]
        if durable is None:
            verdict.add("ahead", f"{show_lsn(confirmed)} was confirmed at {time_ms} ms; no checkpoint says so")
        elif durable > time_ms:
            verdict.add("ahead", f"{show_lsn(confirmed)} was confirmed {durable - time_ms} ms before its checkpoint")
