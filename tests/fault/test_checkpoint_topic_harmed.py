"""The topic that holds the position is harmed by somebody: told, and nothing moved, neither the slot nor any topic.

That it is deleted or emptied is in test_refusals.py.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import Pipeline, Site, alive, refusals, states, wait_refused, wait_states
from tests.support.kafka_topics import alter_topic, grow_topic, truncate_topic
from tests.support.orders import insert_orders, seen_orders, wait_for_orders
from tests.support.topics import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.fault("K11")]

REFUSED = 4
LSN = r"[0-9A-F]+/[0-9A-F]+"
COMPACT = {"cleanup.policy": "compact"}
BEFORE, MISSED, AFTER = [1, 2, 3], [4], [5]


def _write(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value, b"running", partition=0)
    assert producer.flush(30) == 0


def _garbage(bootstrap: str, topic: str) -> None:
    _write(bootstrap, topic, b'{"version":1,"state":"running"}')


def _newer(bootstrap: str, topic: str) -> None:
    """As a later version would write it: the number in front and the checksum at the end keep their places."""
    newest = next(r.value for r in reversed(read(bootstrap, topic)) if r.key == b"running" and r.value)
    body = newest[: newest.rindex(b',"crc32"')].replace(b'"version":1', b'"version":2')
    _write(bootstrap, topic, body + b',"crc32":"%08x"}' % zlib.crc32(body))


def _older(bootstrap: str, topic: str) -> None:
    """An earlier record of our own, as a copy of the topic would bring it back."""
    records = [r.value for r in read(bootstrap, topic) if r.key == b"running" and r.value]
    assert json.loads(records[0])["flush_lsn"] != json.loads(records[-1])["flush_lsn"]
    _write(bootstrap, topic, records[0])


def _truncate(bootstrap: str, topic: str) -> None:
    # Records of a topic that is compacted and nothing else cannot be deleted.
    alter_topic(bootstrap, topic, {"cleanup.policy": "delete"})
    truncate_topic(bootstrap, topic)
    alter_topic(bootstrap, topic, COMPACT)


HARM: dict[str, tuple[Callable[[str, str], None], str]] = {
    # kind: what is done, what must be said of it
    "garbage": (_garbage, r'"{topic}" offset \d+ is not a checkpoint that deltaforge wrote: its checksum'),
    "newer": (_newer, r'"{topic}" offset \d+ has format version 2; this deltaforge reads up to version 1'),
    "older": (_older, rf"stands at {LSN}, expected at most {LSN}: changes between {LSN} and {LSN} would be lost"),
    "truncated": (_truncate, rf"stands at {LSN}, but there is no checkpoint record.*--adopt-slot={LSN}"),
    "policy": (
        lambda bootstrap, topic: alter_topic(bootstrap, topic, {"cleanup.policy": "compact,delete"}),
        r'"{topic}" has cleanup.policy=compact,delete: .*--add-config cleanup.policy=compact',
    ),
    "unclean": (
        lambda bootstrap, topic: alter_topic(bootstrap, topic, {"unclean.leader.election.enable": "true"}),
        r'"{topic}" has unclean.leader.election.enable=true: .*--add-config unclean.leader.election.enable=false',
    ),
    "partitions": (lambda bootstrap, topic: grow_topic(bootstrap, topic, 2), r'"{topic}" has 2 partitions, expected 1'),
}
MENDED = {"policy": COMPACT, "unclean": {"unclean.leader.election.enable": "false"}}


@pytest.fixture
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One database with the tables."""
    database = create_database(postgres)
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path_factory.mktemp("checkpoints"), f"c{database.name[-8:]}") as made:
        yield made
    drop_database(database)


def _assert_told(lines: list[str], hurt: dict[str, Pipeline]) -> None:
    """Each in one line of its own, with its topic."""
    assert len(lines) == len(hurt), lines
    for kind, pipeline in hurt.items():
        words = HARM[kind][1].format(topic=re.escape(pipeline.checkpoints))
        assert any(re.search(f"{pipeline.name} refused: .*{words}", line) for line in lines), (words, lines)


def test_a_harmed_checkpoint_topic_is_refused_and_nothing_is_moved(site: Site) -> None:
    """Guards against a position taken from a record that is not the newest of our own: rows would come again or never.

    What can be put right by a command is gone on from, without a row lost or repeated.
    """
    # GIVEN pipelines that have delivered, one row missed by all of them, and each topic harmed in its own way
    hurt = {kind: site.pipeline(kind) for kind in HARM}
    product = site.process(site.directory / "all", name="harmed")
    product.start()
    product.wait_ready()
    for order in BEFORE:
        insert_orders(site.database, [order])
        for pipeline in hurt.values():
            wait_for_orders(site.bootstrap, pipeline.topic, [order], lambda: alive(product))
    assert product.term() == 0, product.tail()
    insert_orders(site.database, MISSED)
    for kind, pipeline in hurt.items():
        HARM[kind][0](site.bootstrap, pipeline.checkpoints)
    before = {kind: site.standing(pipeline) for kind, pipeline in hurt.items()}

    # WHEN they are started
    product.start()

    # THEN each is refused for its reason, and nothing was written or confirmed
    assert product.wait() == REFUSED, product.tail()
    _assert_told(refusals(product), hurt)
    assert {kind: site.standing(pipeline) for kind, pipeline in hurt.items()} == before
    # AND the commands that the refusals name are enough
    for kind, config in MENDED.items():
        alter_topic(site.bootstrap, hurt[kind].checkpoints, config)
    product.start()
    wait_states(product, [hurt[kind] for kind in MENDED], "running")
    insert_orders(site.database, AFTER)
    for kind in MENDED:
        wait_for_orders(site.bootstrap, hurt[kind].topic, AFTER, lambda: alive(product))
        assert seen_orders(site.bootstrap, hurt[kind].topic) == [*BEFORE, *MISSED, *AFTER]
    product.kill9()


def test_what_somebody_writes_under_way_is_refused_at_the_next_epoch(site: Site) -> None:
    """Guards against a newest record that is not ours, believed or stepped over once the stream has to begin anew."""
    hurt = {kind: site.pipeline(kind) for kind in ("garbage", "newer")}
    neighbour = site.pipeline("neighbour")
    product = site.process(site.directory / "all", name="harmed-live")
    product.start()
    product.wait_ready()
    insert_orders(site.database, BEFORE)
    for pipeline in (*hurt.values(), neighbour):
        wait_for_orders(site.bootstrap, pipeline.topic, BEFORE, lambda: alive(product))
    # WHEN records of others come, then every stream ends
    for kind, pipeline in hurt.items():
        HARM[kind][0](site.bootstrap, pipeline.checkpoints)
    site.database.execute(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()"
    )
    wait_refused(product, list(hurt.values()))
    before = {kind: site.standing(pipeline) for kind, pipeline in hurt.items()}
    insert_orders(site.database, AFTER)
    # THEN their pipelines stay where they are, and the neighbour goes on
    wait_for_orders(site.bootstrap, neighbour.topic, AFTER, lambda: alive(product))
    _assert_told(refusals(product), hurt)
    assert {kind: site.standing(pipeline) for kind, pipeline in hurt.items()} == before
    assert states(product)[neighbour.name] == "running"
    assert seen_orders(site.bootstrap, neighbour.topic) == [*BEFORE, *AFTER]
    product.kill9()
