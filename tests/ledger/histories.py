"""I1 to I4: the versions that were seen of each key, against those that the writers made.

While a key's events come exactly as they must, nothing but a counter is kept of them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tests.ledger.outcomes import Expected, Version
    from tests.ledger.rows import Key
    from tests.ledger.seen import Place, Seen
    from tests.ledger.verdict import Verdict

_Identity: TypeAlias = tuple[str, int, int | None, int]


class _History:
    """What was seen of one key: the first `right` versions and, from the first surprise on, everything."""

    __slots__ = ("odd", "place", "right")

    def __init__(self, place: Place) -> None:
        self.place, self.right = place, 0
        self.odd: list[_Identity] | None = None


class Histories:
    """Takes events in the order of their partitions."""

    def __init__(self, expected: Expected, verdict: Verdict) -> None:
        self._expected, self._verdict = expected, verdict
        self._keys: dict[Key, _History] = {}
        self._rows: dict[_Identity, Any] = {}

    def take(self, event: Seen) -> None:
        """One event."""
        history = self._keys.get(event.key)
        if history is None:
            history = self._keys[event.key] = _History(event.place)
        elif history.place != event.place:
            self._verdict.add("reordered", f"{event.key} in {history.place} and {event.place}")
            history.place = event.place
        identity = (event.op, event.digest, event.large, event.xid)
        if history.odd is None:
            due = self._expected.versions.get(event.key, ())
            if history.right < len(due) and due[history.right][:4] == identity:
                self._check_number(event, due[history.right])
                history.right += 1
                return
            history.odd = []
        history.odd.append(identity)
        if len(self._rows) < 1000:
            self._rows[identity] = event.row

    def finish(self) -> None:
        """Nothing more comes: count."""
        for key in self._keys.keys() | self._expected.versions.keys():
            history, due = self._keys.get(key), self._expected.versions.get(key, [])
            if history is None or history.odd is not None or history.right < len(due):
                self._judge(key, history, due)
        versions = sum(map(len, self._expected.versions.values()))
        for invariant in ("I1", "I2", "I3", "I4"):
            self._verdict.look(invariant, versions if invariant == "I1" else self._verdict.events)

    def _check_number(self, event: Seen, due: Version) -> None:
        if event.commit_lsn is not None and due.number not in (-1, event.number):
            where = f"{event.place} offset {event.offset}"
            self._verdict.add("position", f"{where}: number {event.number} in its transaction, not {due.number}")

    def _judge(self, key: Key, history: _History | None, versions: list[Version]) -> None:
        verdict = self._verdict
        want: list[_Identity] = [version[:4] for version in versions]
        have = [] if history is None else want[: history.right] + (history.odd or [])
        counted, due = Counter(have), Counter(want)
        for identity, count in (due - counted).items():
            verdict.add("lost", f"{key} {identity[0]} of transaction {identity[3]}", count)
        for identity, count in (counted - due).items():
            kind = "doubled" if identity in due else "unexpected"
            verdict.add(kind, f"{key} {identity[0]} of {self._origin(identity)}: {self._rows.get(identity)}", count)
        # Order is judged on what is on both sides, each at its first place, or one loss would count as many.
        both = counted & due
        left, right = _firsts(have, both), _firsts(want, both)
        wrong = sum(a != b for a, b in zip(left, right, strict=True))
        verdict.add("reordered", f"{key}: {_short(left)} instead of {_short(right)}", wrong)

    def _origin(self, identity: _Identity) -> str:
        _, digest, _, xid = identity
        if xid in self._expected.undone:
            return f"a rolled back transaction {xid}"
        if digest in self._expected.withdrawn:
            return f"a rolled back savepoint of transaction {xid}"
        if xid in self._expected.vanished:
            return f"transaction {xid}, which PostgreSQL confirmed and then lost"
        return f"transaction {xid}"


def _firsts(identities: list[_Identity], wanted: Counter[_Identity]) -> list[_Identity]:
    left = Counter(wanted)
    kept = []
    for identity in identities:
        if left[identity] > 0:
            left[identity] -= 1
            kept.append(identity)
    return kept


def _short(identities: list[_Identity]) -> list[tuple[str, int]]:
    return [(op, xid) for op, _, _, xid in identities]
