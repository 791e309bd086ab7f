"""Data topics that disappear, come back as others or grow, under a running pipeline and while none runs.

deltaforge makes none of them: each pipeline of this file reads the same database into a topic of its own.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import Pipeline, Site, alive, refusals, states, wait_refused
from tests.support.kafka_topics import create_topic, delete_topic, grow_topic, topic_names
from tests.support.orders import insert_orders, seen_orders, wait_for_orders
from tests.support.topics import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("K10")]

REFUSED = 4
PARTITIONS = 3


def _recreate(bootstrap: str, topic: str) -> None:
    delete_topic(bootstrap, topic)
    create_topic(bootstrap, topic)


HARM: dict[str, tuple[Callable[[str, str], None], str]] = {
    "deleted": (delete_topic, r'topic "{topic}" does not exist.*; it held delivered records'),
    "recreated": (_recreate, r"topic {topic} was recreated: its id was \S+ and is \S+; records are gone"),
}


@pytest.fixture(scope="module")
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One database with the tables, for all tests of this file."""
    database = create_database(postgres)
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path_factory.mktemp("topics"), f"t{database.name[-8:]}") as made:
        yield made
    drop_database(database)


def _start(site: Site, folder: str, pipelines: list[Pipeline], orders: list[int]) -> Deltaforge:
    """A process with these pipelines that has delivered these orders."""
    product = site.process(site.directory / folder, name=f"topics-{folder}")
    product.start()
    product.wait_ready()
    insert_orders(site.database, orders)
    for pipeline in pipelines:
        wait_for_orders(site.bootstrap, pipeline.topic, orders, lambda: alive(product))
    return product


def _assert_told(product: Deltaforge, hurt: dict[str, Pipeline]) -> None:
    """Each in one line of its own, with its topic."""
    lines = refusals(product)
    assert len(lines) == len(hurt), lines
    for kind, pipeline in hurt.items():
        words = HARM[kind][1].format(topic=re.escape(pipeline.topic))
        assert any(re.search(f"{pipeline.name} refused: .*{words}", line) for line in lines), (words, lines)


def test_a_topic_that_went_while_nothing_ran_is_missed_and_not_made_anew(site: Site) -> None:
    """Guards against writing on into a topic whose readers have lost everything before, as if nothing had been."""
    hurt = {kind: site.pipeline(f"rest-{kind}", "rest") for kind in HARM}
    product = _start(site, "rest", list(hurt.values()), [1, 2])
    assert product.term() == 0, product.tail()
    insert_orders(site.database, [3])
    for kind, pipeline in hurt.items():
        HARM[kind][0](site.bootstrap, pipeline.topic)
    before = {kind: site.confirmed(pipeline) for kind, pipeline in hurt.items()}

    product.start()

    assert product.wait() == REFUSED, product.tail()
    _assert_told(product, hurt)
    assert {kind: site.confirmed(pipeline) for kind, pipeline in hurt.items()} == before
    assert hurt["deleted"].topic not in topic_names(site.bootstrap)
    assert read(site.bootstrap, hurt["recreated"].topic, committed=False) == []


def test_a_topic_that_goes_under_a_running_pipeline_ends_that_pipeline_alone(site: Site) -> None:
    """Guards against a loop of retries, and against a neighbour that pays for it."""
    # A topic that is gone is noticed when a flush has lasted too long.
    hurt = {kind: site.pipeline(f"live-{kind}", "live", send_timeout_secs=10) for kind in HARM}
    neighbour = site.pipeline("live-neighbour", "live")
    product = _start(site, "live", [*hurt.values(), neighbour], [11, 12])

    for kind, pipeline in hurt.items():
        HARM[kind][0](site.bootstrap, pipeline.topic)
    insert_orders(site.database, [13])

    wait_refused(product, list(hurt.values()))
    _assert_told(product, hurt)
    assert hurt["deleted"].topic not in topic_names(site.bootstrap)
    assert product.text().count('"rewinding"') < 20, product.tail()
    # AND the neighbour works as if nothing had been
    insert_orders(site.database, [14])
    wait_for_orders(site.bootstrap, neighbour.topic, [14], lambda: alive(product))
    assert states(product)[neighbour.name] == "running"
    assert product.pipeline(neighbour.name)["sinks"][0]["aborts"] == 0
    assert seen_orders(site.bootstrap, neighbour.topic) == [11, 12, 13, 14]
    product.kill9()


def test_new_partitions_move_no_key_and_are_told_once(site: Site) -> None:
    """Guards the order of a key's versions: after a new count its later ones would be read before its earlier ones."""
    pipeline = site.pipeline("grown", "grown")
    orders = list(range(21, 41))
    product = _start(site, "grown", [pipeline], orders)
    # WHEN partitions come under way, and the process starts again
    grow_topic(site.bootstrap, pipeline.topic, PARTITIONS)
    update = "update orders set note = %s where id = any(%s)"
    site.database.execute(update, ["under way", orders])
    wait_for_orders(site.bootstrap, pipeline.topic, orders * 2, lambda: alive(product))
    assert product.term() == 0, product.tail()
    product.start()
    product.wait_ready()
    site.database.execute(update, ["started again", orders])
    insert_orders(site.database, [99])
    # THEN everything came once, and where its key was from the beginning
    wait_for_orders(site.bootstrap, pipeline.topic, [*orders * 3, 99], lambda: alive(product))
    assert seen_orders(site.bootstrap, pipeline.topic) == sorted([*orders * 3, 99])
    records = read(site.bootstrap, pipeline.topic)
    assert {record.partition for record in records} == {0}
    notes: dict[int, list[str | None]] = {}
    for record in records:
        row = json.loads(record.value or b"")
        notes.setdefault(row["after"]["id"], []).append(row["after"]["note"])
    assert all(notes[order] == [None, "under way", "started again"] for order in orders), notes
    assert product.text().count(f"topic {pipeline.topic} has {PARTITIONS - 1} new partitions") == 1
    assert product.term() == 0, product.tail()
