"""Where the replicas of a cluster's partitions are, who leads them, and how to move leaders about."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # no __all__

from tests.support.kafka_topics import ADMIN_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka.admin import PartitionMetadata  # type: ignore[attr-defined]

    from deltaforge.embedded.kafka import KafkaCluster

WAIT_S = 60.0
TRANSACTION_STATE = "__transaction_state"
Place = tuple[str, int]


def replicas(bootstrap: str) -> dict[Place, PartitionMetadata]:
    """Leader, replicas and replicas in sync of every partition."""
    return _ask(AdminClient({"bootstrap.servers": bootstrap}))


def _ask(admin: AdminClient) -> dict[Place, PartitionMetadata]:
    topics = admin.list_topics(timeout=ADMIN_S).topics
    return {(name, number): found for name, topic in topics.items() for number, found in topic.partitions.items()}


def wait_replicas(bootstrap: str, reached: Callable[[Mapping[Place, PartitionMetadata]], bool], what: str) -> None:
    """Block until the replicas are so. Raises TimeoutError."""
    deadline = time.monotonic() + WAIT_S
    while not reached(now := replicas(bootstrap)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not {what}: { ({place: found.isrs for place, found in now.items()}) }")
        time.sleep(0.1)


def wait_in_sync(bootstrap: str) -> None:
    """Block until every replica of every partition is in sync and every partition has a leader. Raises TimeoutError."""
    wait_replicas(
        bootstrap,
        lambda now: all(len(found.isrs) == len(found.replicas) and found.leader > 0 for found in now.values()),
        "all in sync",
    )


def create_on(bootstrap: str, name: str, partitions: Sequence[Sequence[int]], config: Mapping[str, str]) -> str:
    """Create a topic whose partitions lie on these nodes, the preferred leader of each first. Returns its name."""
    new = NewTopic(name, len(partitions), replica_assignment=[list(nodes) for nodes in partitions], config=dict(config))
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([new], operation_timeout=ADMIN_S)[name].result(ADMIN_S)
    wait_replicas(
        bootstrap,
        lambda now: all((name, n) in now and now[name, n].leader > 0 for n in range(len(partitions))),
        f"led: {name}",
    )
    return name


def coordinator(bootstrap: str, transactional_id: str) -> int:
    """The node that coordinates the transactions of this id: the leader of its partition of the coordinator's log."""
    return _coordinator(replicas(bootstrap), transactional_id)


def wait_coordinator(bootstrap: str, transactional_id: str, wanted: Callable[[int], bool]) -> None:
    """Block until the coordinator is such a node, and not -1. Raises TimeoutError."""

    def reached(now: Mapping[Place, PartitionMetadata]) -> bool:
        node = _coordinator(now, transactional_id)
        return node > 0 and wanted(node)

    wait_replicas(bootstrap, reached, f"{transactional_id} coordinated anew")


def _coordinator(found: Mapping[Place, PartitionMetadata], transactional_id: str) -> int:
    count = sum(topic == TRANSACTION_STATE for topic, _ in found)
    return int(found[TRANSACTION_STATE, _java_hash(transactional_id) % count].leader)


def move_leaders(cluster: KafkaCluster, topics: Sequence[str]) -> None:
    """Make the next replica of each partition its leader, while everybody works."""
    bootstrap = cluster.bootstrap()
    now = {place: found for place, found in replicas(bootstrap).items() if place[0] in topics}
    wanted = {place: [*found.replicas[1:], found.replicas[0]] for place, found in now.items()}
    moves = [{"topic": topic, "partition": number, "replicas": nodes} for (topic, number), nodes in wanted.items()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "moves.json"
        file.write_text(json.dumps({"version": 1, "partitions": moves}))
        server = ("--bootstrap-server", bootstrap)
        command = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
        cluster.run_tool(command, *server, "--reassignment-json-file", str(file), "--execute")
    wait_replicas(bootstrap, lambda now: all(now[p].replicas == nodes for p, nodes in wanted.items()), "reassigned")
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.elect_leaders(ElectionType.PREFERRED, [TopicPartition(*place) for place in wanted]).result(ADMIN_S)
    wait_replicas(bootstrap, lambda now: all(now[p].leader == nodes[0] for p, nodes in wanted.items()), "led anew")


def _java_hash(text: str) -> int:
    """The absolute value of Java's String.hashCode()."""
    value = 0
    for unit in text.encode("utf-16-be"):
        # Names are ASCII: every other byte is 0.
        value = (value * 31 + unit) & 0xFFFFFFFF if unit else value
    signed = value - (1 << 32) if value >= 1 << 31 else value
    return 0 if signed == -(1 << 31) else abs(signed)
