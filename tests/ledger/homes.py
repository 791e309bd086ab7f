"""In which Kafka transaction a record lies, from the broker's log files and from the coordinator's own log.

The markers in a partition say where one transaction ends and the next begins, but not which transactions of different
partitions are one. The coordinator's log does: it holds the time of each decision and the partitions it is about. A
marker belongs to the last decision before it; both are stamped by clocks of one machine.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.ledger.seen import Place
    from tests.ledger.verdict import Verdict
    from tests.support.partition_logs import PartitionLog
    from tests.support.transaction_log import Decision


class Home(NamedTuple):
    """Where a record lies."""

    section: int
    """Number of its transaction among those of its partition; -1 = outside of any."""
    transaction: int | None
    """Number of the decision that ended it, the same in all partitions; None = not known."""


class Homes:
    """Looks up records by place and offset."""

    def __init__(self, logs: Mapping[Place, PartitionLog], decisions: Sequence[Decision] = ()) -> None:
        """`decisions`: of one transactional id, in order."""
        self.logs = logs
        self.decisions = decisions
        self._times = [decision.time_ms for decision in decisions]
        self._known: dict[tuple[Place, int], Home] = {}

    def home(self, place: Place, offset: int) -> Home:
        """Of a record. A place that nobody looked into has one home."""
        log = self.logs.get(place)
        section = -1 if log is None else log.section(offset)
        known = self._known.get((place, section))
        if known is None:
            known = self._known[place, section] = Home(section, self._decision(place, section))
        return known

    def judge(self, verdict: Verdict) -> None:
        """I5: each transaction in a partition is the work of one producer epoch."""
        for place, log in self.logs.items():
            for section in log.mixed:
                marker = log.markers[section]
                verdict.add("epochs", f"{place}: the transaction that ends at {marker.offset}")
            verdict.look("I5", len(log.markers))

    def _decision(self, place: Place, section: int) -> int | None:
        if section < 0 or not self.decisions:
            return None
        marker = self.logs[place].markers[section]
        number = bisect_right(self._times, marker.time_ms) - 1
        if number < 0:
            return None
        decision = self.decisions[number]
        fits = decision.producer_id == marker.producer_id and decision.committed == marker.committed
        return number if fits and place in decision.places else None
