"""The log files of whole topics, batch by batch, as Kafka's DumpLogSegments tells them; kept small.

What `kafka_log` shows of a few batches, for millions of records.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, Literal, NamedTuple

from tests.support.kafka_tools import tool_lines
from tests.support.topics import consumer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from deltaforge.embedded.kafka import KafkaCluster

Outcome = Literal["committed", "aborted", "open", "plain"]
"""What became of a batch; plain = it was in no transaction."""

_FILE = re.compile(rb"^Dumping .*/(?P<topic>[^/]+)-(?P<partition>\d+)/\d+\.log$")
_BATCH = re.compile(
    rb"^baseOffset: (?P<first>\d+) lastOffset: (?P<last>\d+) count: (?P<count>\d+) .*?"
    rb"producerId: (?P<producer>-?\d+) producerEpoch: (?P<epoch>-?\d+) .*?"
    rb"isTransactional: (?P<transactional>true|false) isControl: (?P<control>true|false) .*?CreateTime: (?P<time>-?\d+)"
)
_MARKER = re.compile(rb"endTxnMarker: (?P<marker>COMMIT|ABORT)")


class Batch(NamedTuple):
    """Records that were written together."""

    first: int
    last: int
    records: int
    producer_id: int
    epoch: int
    transactional: bool


class Mark(NamedTuple):
    """The end of a transaction in a partition."""

    offset: int
    time_ms: int
    producer_id: int
    epoch: int
    committed: bool


class PartitionLog:
    """Batches and markers of one partition, in order."""

    def __init__(self) -> None:
        self.markers: list[Mark] = []
        self.mixed: list[int] = []
        """Numbers of the markers whose transactions more than one producer epoch wrote."""
        self._marked = array("q")
        self._first, self._last, self._count, self._section = (array("q") for _ in range(4))
        self._open: dict[int, list[int]] = {}
        self._epochs: dict[int, set[int]] = {}

    def add(self, batch: Batch) -> None:
        """The next batch."""
        if batch.transactional:
            self._open.setdefault(batch.producer_id, []).append(len(self._last))
            self._epochs.setdefault(batch.producer_id, set()).add(batch.epoch)
        self._first.append(batch.first)
        self._last.append(batch.last)
        self._count.append(batch.records)
        self._section.append(-2 if batch.transactional else -1)

    def end(self, mark: Mark) -> None:
        """The next marker."""
        epochs = self._epochs.pop(mark.producer_id, set())
        # A successor aborts under its own, higher epoch; who commits does so under the one that wrote.
        if len(epochs) > 1 or (mark.committed and epochs - {mark.epoch}):
            self.mixed.append(len(self.markers))
        for batch in self._open.pop(mark.producer_id, ()):
            self._section[batch] = len(self.markers)
        self.markers.append(mark)
        self._marked.append(mark.offset)

    def section(self, offset: int) -> int:
        """Number of the marker that ends the transaction of a record: -1 = it is in none, -2 = none yet."""
        batch = bisect_left(self._last, offset)
        if batch < len(self._last) and self._first[batch] <= offset:
            return self._section[batch]
        # Compaction has taken its batch, and left the markers.
        section = bisect_left(self._marked, offset)
        return section if section < len(self._marked) else -2

    def outcome(self, offset: int) -> Outcome:
        """What became of a record."""
        return self._outcome(self.section(offset))

    def count(self, outcome: Outcome) -> int:
        """Records of that outcome."""
        return sum(
            n for n, section in zip(self._count, self._section, strict=True) if self._outcome(section) == outcome
        )

    def _outcome(self, section: int) -> Outcome:
        if section < 0:
            return "plain" if section == -1 else "open"
        return "committed" if self.markers[section].committed else "aborted"


def read_logs(
    cluster: KafkaCluster, topics: Sequence[str], bootstrap: str | None = None
) -> dict[tuple[str, int], PartitionLog]:
    """The logs of all partitions of these topics, each from the node that leads it.

    Args: bootstrap: where our own clients reach the cluster, if not at its own address.

    Raises FileNotFoundError when a partition has no log file there.
    """
    files = [str(file) for topic in topics for file in _segments(cluster, bootstrap or cluster.bootstrap(), topic)]
    with tool_lines("kafka.tools.DumpLogSegments", "--deep-iteration", "--files", ",".join(files)) as lines:
        return parse_logs(lines)


def parse_logs(lines: Iterable[bytes]) -> dict[tuple[str, int], PartitionLog]:
    """Read the output of DumpLogSegments with `--deep-iteration`."""
    logs: dict[tuple[str, int], PartitionLog] = {}
    log, control = PartitionLog(), None
    for line in lines:
        if control is not None and (ending := _MARKER.search(line)):
            log.end(Mark(*control, ending["marker"] == b"COMMIT"))
            control = None
        elif (found := _BATCH.match(line)) is not None:
            first, last, records, producer, epoch = map(int, found.group("first", "last", "count", "producer", "epoch"))
            if found["control"] == b"true":
                control = first, int(found["time"]), producer, epoch
            else:
                log.add(Batch(first, last, records, producer, epoch, found["transactional"] == b"true"))
        elif (file := _FILE.match(line)) is not None:
            log = logs.setdefault((file["topic"].decode(), int(file["partition"])), PartitionLog())
    return logs


def _segments(cluster: KafkaCluster, bootstrap: str, topic: str) -> Iterator[str]:
    reader = consumer(bootstrap)
    try:
        known = reader.list_topics(topic, timeout=30).topics[topic].partitions
    finally:
        reader.close()
    for number, partition in sorted(known.items()):
        folder = cluster.node(partition.leader).data / f"{topic}-{number}"
        segments = sorted(str(file) for file in folder.glob("*.log"))
        if not segments:
            raise FileNotFoundError(f"node {partition.leader} has no log of {topic}-{number}")
        yield from segments
