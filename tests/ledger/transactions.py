"""I5, and what of I2 and I8 is about whole source transactions.

Every source transaction is complete or absent, lies in one Kafka transaction over all partitions, has a commit LSN of
its own, and is covered by the checkpoint of the very Kafka transaction it lies in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.ledger.lsn import show_lsn

if TYPE_CHECKING:
    from tests.ledger.checkpoints import Coverage
    from tests.ledger.homes import Homes
    from tests.ledger.outcomes import Expected
    from tests.ledger.seen import Place, Seen
    from tests.ledger.verdict import Verdict


class _Source:
    """What was seen of one source transaction."""

    __slots__ = ("commit_lsn", "events", "home", "torn")

    def __init__(self) -> None:
        self.events = 0
        self.home: int | None = None
        self.commit_lsn: int | None = None
        self.torn = False


class Transactions:
    """Takes events in the order of their partitions."""

    def __init__(
        self, expected: Expected, verdict: Verdict, homes: Homes | None, coverage: Coverage | None, *, split: bool
    ) -> None:
        """`split`: whether a source transaction may be in several Kafka transactions."""
        self._expected, self._verdict = expected, verdict
        self._homes, self._coverage, self._split = homes, coverage, split
        self._sources: dict[int, _Source] = {}
        self._commits: dict[int, int] = {}
        self._here: dict[Place, tuple[int, int]] = {}

    def take(self, event: Seen) -> None:
        """One event."""
        source = self._sources.get(event.xid)
        if source is None:
            source = self._sources[event.xid] = _Source()
        source.events += 1
        if event.commit_lsn is not None:
            self._check_commit(source, event, event.commit_lsn)
        if self._homes is not None:
            self._check_home(self._homes, source, event)

    def finish(self) -> None:
        """Nothing more comes: count."""
        for xid, extent in self._expected.transactions.items():
            source = self._sources.get(xid)
            if source is not None and source.events < extent.events:
                self._verdict.add("torn", f"{source.events} of {extent.events} events of transaction {xid}")
        self._verdict.look("I5", len(self._expected.transactions))

    def _check_commit(self, source: _Source, event: Seen, commit_lsn: int) -> None:
        if source.commit_lsn is None:
            source.commit_lsn = commit_lsn
            owner = self._commits.setdefault(commit_lsn, event.xid)
            if owner != event.xid:
                self._verdict.add("position", f"transactions {owner} and {event.xid} at {show_lsn(commit_lsn)}")
        elif source.commit_lsn != commit_lsn:
            lsns = f"{show_lsn(source.commit_lsn)} and {show_lsn(commit_lsn)}"
            self._verdict.add("position", f"transaction {event.xid} at {lsns}")

    def _check_home(self, homes: Homes, source: _Source, event: Seen) -> None:
        home = homes.home(event.place, event.offset)
        if home.transaction is not None and self._coverage is not None:
            self._verdict.look("I8")
            self._coverage.check(event, home.transaction)
        if self._split or source.torn:
            return
        before = self._here.get(event.place)
        self._here[event.place] = (event.xid, home.section)
        if before is not None and before[0] == event.xid and before[1] != home.section:
            source.torn = True
            self._verdict.add("torn", f"transaction {event.xid} in two Kafka transactions of {event.place}")
        elif home.transaction is not None:
            if source.home is not None and source.home != home.transaction:
                source.torn = True
                self._verdict.add("torn", f"transaction {event.xid} in two Kafka transactions, one in {event.place}")
            source.home = home.transaction
