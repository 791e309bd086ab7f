"""Look into a broker's log files with Kafka's own DumpLogSegments: producer epochs and transaction markers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from deltaforge.embedded.kafka import KafkaCluster

_BATCH = re.compile(
    r"^baseOffset: (?P<base>\d+) lastOffset: (?P<last>\d+) count: (?P<count>\d+) .*?"
    r"producerId: (?P<producer>-?\d+) producerEpoch: (?P<epoch>-?\d+) .*?"
    r"isTransactional: (?P<transactional>true|false) isControl: (?P<control>true|false)"
)
_MARKER = re.compile(r"endTxnMarker: (?P<marker>COMMIT|ABORT)")


@dataclass(frozen=True)
class LogBatch:
    """One record batch of a partition. `marker` is set for the control records that end a transaction."""

    base_offset: int
    last_offset: int
    count: int
    producer_id: int
    producer_epoch: int
    transactional: bool
    marker: Literal["COMMIT", "ABORT"] | None
    control: bool = False


def dump_log(
    cluster: KafkaCluster, topic: str, partition: int = 0, *, node_id: int = 1, deep: bool = True
) -> list[LogBatch]:
    """The batches of one partition in order, as they lie on the disk of one node.

    Not `deep`: a large log is read much faster, but what a marker says is not known.
    """
    folder = cluster.node(node_id).data / f"{topic}-{partition}"
    segments = sorted(str(file) for file in folder.glob("*.log"))
    if not segments:
        raise FileNotFoundError(f"node {node_id} has no log of {topic}-{partition}")
    how = ["--deep-iteration"] if deep else []
    return parse_dump(cluster.run_tool("kafka.tools.DumpLogSegments", *how, "--files", ",".join(segments)))


def dump_topic(cluster: KafkaCluster, topic: str, partitions: int, *, node_id: int = 1) -> list[list[LogBatch]]:
    """`dump_log` of all partitions of a topic with one call of the tool, not deep."""
    files = [
        str(file)
        for number in range(partitions)
        for file in sorted((cluster.node(node_id).data / f"{topic}-{number}").glob("*.log"))
    ]
    out: list[list[LogBatch]] = [[] for _ in range(partitions)]
    text = cluster.run_tool("kafka.tools.DumpLogSegments", "--files", ",".join(files))
    for section in text.split("Dumping ")[1:]:
        folder = section.partition("\n")[0].rstrip().rsplit("/", 2)[1]
        out[int(folder.rpartition("-")[2])] += parse_dump(section)
    return out


def parse_dump(text: str) -> list[LogBatch]:
    """Read the output of DumpLogSegments with `--deep-iteration`."""
    batches: list[LogBatch] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if (found := _BATCH.match(line)) is None:
            continue
        marker = None
        if found["control"] == "true" and number + 1 < len(lines):
            ending = _MARKER.search(lines[number + 1])
            marker = ending["marker"] if ending else None
        batches.append(
            LogBatch(
                int(found["base"]),
                int(found["last"]),
                int(found["count"]),
                int(found["producer"]),
                int(found["epoch"]),
                found["transactional"] == "true",
                "COMMIT" if marker == "COMMIT" else "ABORT" if marker == "ABORT" else None,
                found["control"] == "true",
            )
        )
    return batches
