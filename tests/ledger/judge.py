"""The verdict: what consumers saw against what the writers did.

Kinds of trouble, each counted on its own:
  lost        a committed version that no record shows
  doubled     a version shown more than once
  reordered   a version that stands after a later one of its key, a key in two partitions, or a partition in which the
              source's commits run backwards
  unexpected  an event of a rolled back transaction or savepoint, or of nothing the writers did
  torn        a source transaction of which a reader sees a part only, or that two Kafka transactions share
  tombstones  a delete without its tombstone right behind it, or a tombstone without its delete
  unreadable  a record that is no Debezium event of the three tables
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tests.ledger.debezium_rows import key_of, row_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.ledger.outcomes import Expected, Version
    from tests.ledger.rows import Key, Row
    from tests.support.topics import Marker, Record

SHOWN = 12


class Seen(NamedTuple):
    """One event with a value, as a record showed it."""

    key: Key
    op: str
    row: Row | None
    xid: int
    previous_commit: int
    """`source.sequence`'s first element: where the transaction before this one ended; 0 = unknown."""
    partition: int
    offset: int


@dataclass
class Verdict:
    """Counts of every kind of trouble, and a few words on the first of each."""

    events: int = 0
    tombstones: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every committed version was seen exactly once, in order per key, and nothing else."""
        return not self.troubles

    def add(self, kind: str, what: object, count: int = 1) -> None:
        """Count a trouble."""
        if count > 0:
            self.troubles[kind] += count
            if sum(detail.startswith(kind) for detail in self.details) < SHOWN:
                self.details.append(f"{kind}: {what}")

    def __str__(self) -> str:
        counts = ", ".join(f"{kind} {self.troubles[kind]}" for kind in KINDS)
        return "\n".join([f"{self.events} events, {self.tombstones} tombstones: {counts}", *self.details])


KINDS = ("lost", "doubled", "reordered", "unexpected", "torn", "tombstones", "unreadable")


def judge(records: Sequence[Record], expected: Expected, marks: Iterable[Marker] = ()) -> Verdict:
    """Compare a topic's committed records, in offset order per partition, with the writers' ledger.

    `marks`: the topic's transaction markers; with them a source transaction in two Kafka transactions is found too.
    """
    verdict = Verdict()
    seen = _decode(records, verdict)
    _judge_versions(seen, expected, verdict)
    _judge_partitions(seen, verdict)
    _judge_tombstones(records, verdict)
    _judge_transactions(seen, expected, verdict)
    _judge_kafka_transactions(seen, marks, verdict)
    return verdict


def _decode(records: Iterable[Record], verdict: Verdict) -> list[Seen]:
    seen: list[Seen] = []
    for record in records:
        if record.value is None:
            verdict.tombstones += 1
            continue
        verdict.events += 1
        try:
            seen.append(_event(record))
        except (KeyError, ValueError, TypeError, msgspec.DecodeError) as error:
            verdict.add("unreadable", f"partition {record.partition} offset {record.offset}: {error!r}")
    return seen


def _event(record: Record) -> Seen:
    value = msgspec.json.decode(record.value or b"")
    source, op = value["source"], value["op"]
    table = source["table"]
    row = None if value["after"] is None else row_of(table, value["after"])
    if (op == "d") != (row is None):
        raise ValueError(f"op {op!r} with after {'absent' if row is None else 'present'}")
    before = json.loads(source["sequence"])[0]
    pk = key_of(table, msgspec.json.decode(record.key or b""))
    if row is not None and pk != row[: len(pk)]:
        raise ValueError(f"key {pk} of another row than {row[: len(pk)]}")
    return Seen((table, pk), op, row, source["txId"], int(before or 0), record.partition, record.offset)


def _judge_versions(seen: Iterable[Seen], expected: Expected, verdict: Verdict) -> None:
    by_key: dict[Key, list[Seen]] = defaultdict(list)
    for event in seen:
        by_key[event.key].append(event)
    for key in by_key.keys() | expected.versions.keys():
        _judge_key(key, by_key.get(key, []), expected.versions.get(key, []), expected, verdict)


def _judge_key(key: Key, seen: list[Seen], wanted: list[Version], expected: Expected, verdict: Verdict) -> None:
    if len({event.partition for event in seen}) > 1:
        verdict.add("reordered", f"{key} in partitions {sorted({event.partition for event in seen})}")
    have, want = [_identity(event) for event in seen], [_identity(version) for version in wanted]
    if have == want:
        return
    counted, due = Counter(have), Counter(want)
    for identity, count in (due - counted).items():
        verdict.add("lost", f"{key} {identity}", count)
    for identity, count in (counted - due).items():
        kind = "doubled" if identity in due else "unexpected"
        state = "a rolled back transaction" if identity[2] in expected.undone else "transaction"
        verdict.add(kind, f"{key} {identity[0]} of {state} {identity[2]}: {identity[1]}", count)
    # Order is judged on what is on both sides, each at its first place, or one loss would count as many.
    both = counted & due
    left, right = _firsts(have, both), _firsts(want, both)
    verdict.add("reordered", f"{key}: {left} instead of {right}", sum(a != b for a, b in zip(left, right, strict=True)))


def _identity(version: Seen | Version) -> tuple[str, Row | None, int]:
    return version.op, version.row, version.xid


def _firsts(identities: list[Any], wanted: Counter[Any]) -> list[Any]:
    left = Counter(wanted)
    kept = []
    for identity in identities:
        if left[identity] > 0:
            left[identity] -= 1
            kept.append(identity)
    return kept


def _judge_partitions(seen: Iterable[Seen], verdict: Verdict) -> None:
    latest: dict[int, int] = {}
    for event in seen:
        if event.previous_commit < latest.get(event.partition, 0):
            verdict.add("reordered", f"partition {event.partition} offset {event.offset} goes back to an older commit")
        latest[event.partition] = event.previous_commit


def _judge_tombstones(records: Iterable[Record], verdict: Verdict) -> None:
    """In one partition, `d` and its tombstone stand next to each other: they are one event."""
    ordered: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        ordered[record.partition].append(record)
    for rows in ordered.values():
        for before, after in pairwise([None, *rows, None]):
            deletes = before is not None and before.value is not None and b'"op":"d"' in before.value
            follows = after is not None and after.value is None
            matches = before is not None and after is not None and before.key == after.key
            if deletes and not (follows and matches):
                verdict.add("tombstones", f"none after {before}")
            elif follows and not (deletes and matches):
                verdict.add("tombstones", f"{after} without a delete before it")


def _judge_transactions(seen: Iterable[Seen], expected: Expected, verdict: Verdict) -> None:
    counts = Counter(event.xid for event in seen)
    for xid, due in expected.transactions.items():
        if 0 < counts[xid] < due:
            verdict.add("torn", f"{counts[xid]} of {due} events of transaction {xid}")


def _judge_kafka_transactions(seen: Iterable[Seen], marks: Iterable[Marker], verdict: Verdict) -> None:
    ends: dict[int, list[int]] = defaultdict(list)
    for mark in marks:
        ends[mark.partition].append(mark.offset)
    homes: dict[tuple[int, int], int] = {}
    place: dict[int, int] = defaultdict(int)
    for event in sorted(seen, key=lambda event: (event.partition, event.offset)):
        partition = ends[event.partition]
        while place[event.partition] < len(partition) and partition[place[event.partition]] < event.offset:
            place[event.partition] += 1
        home = homes.setdefault((event.xid, event.partition), place[event.partition])
        if home != place[event.partition]:
            verdict.add("torn", f"transaction {event.xid} in two Kafka transactions of partition {event.partition}")
