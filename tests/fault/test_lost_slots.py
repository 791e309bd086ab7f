"""Slots that the server itself gave up, and a server that cannot have any: every pipeline says which it is.

One server, several pipelines on one database. What is lost is lost for good: nobody makes the slot anew.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.errors import EmbeddedError
from deltaforge.embedded.postgres import PostgresServer
from tests.ledger.workload import make_tables
from tests.support.databases import create_database, fill_wal
from tests.support.instances import Pipeline, Site, Standing, alive, refusals, states
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("G7")]

REFUSED = 4
SEGMENTS = 4
"""Of 16 MiB each: more than a slot may keep."""
OPTIONS = {"max_slot_wal_keep_size": "20MB", "wal_sender_timeout": "60s", "log_min_messages": "log"}
REMOVED = "the replication slot is lost: the server removed WAL it still needed (max_slot_wal_keep_size)"
SAID = {
    # kind: what became of the slot, what has to be said of it
    "removed": REMOVED,
    "frozen": REMOVED,
    "idle": "the replication slot is lost: nobody read it for longer than idle_replication_slot_timeout",
}
BEFORE, MISSED, AFTER = [1, 2], [3], [4]


@dataclass
class Lost:
    """What was seen. `frozen` had a process that was frozen, the others had none when they were lost."""

    site: Site
    pipelines: dict[str, Pipeline]
    before: dict[str, Standing] = field(default_factory=dict)
    after: dict[str, Standing] = field(default_factory=dict)
    ended: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    """Exit code and refusals."""

    @property
    def server(self) -> PostgresServer:
        """The one that gives slots up."""
        return self.site.database.server

    def start(self, kind: str) -> Deltaforge:
        """One pipeline in a process of its own."""
        product = self.site.process(self.pipelines[kind].file, name=f"lost-{kind}")
        product.start()
        return product

    def lost(self, *kinds: str) -> None:
        """Block until the slots of these are."""
        names = [self.pipelines[kind].slot for kind in kinds]
        query = "select count(*) from pg_replication_slots where slot_name = any(%s) and wal_status = 'lost'"

        def reached() -> bool:
            self.site.database.execute("checkpoint")
            return bool(self.site.database.value(query, [names]) == len(names))

        wait_until(reached, f"{names} are lost", lambda: None)


@pytest.fixture(scope="module")
def lost(kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lost]:
    """Three slots that are lost, and what their pipelines make of it."""
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(18, options=OPTIONS))
        database = create_database(server)
        make_tables(database.dsn())
        directory = tmp_path_factory.mktemp("lost")
        site = stack.enter_context(Site(kafka, database, directory, f"l{database.name[-8:]}"))
        story = Lost(site, {kind: site.pipeline(kind, kind) for kind in SAID})
        products = {kind: story.start(kind) for kind in SAID}
        for product in products.values():
            product.wait_ready()
        insert_orders(database, BEFORE)
        for pipeline in story.pipelines.values():
            wait_for_orders(site.bootstrap, pipeline.topic, BEFORE, lambda: None)
        _lose(story, products)
        for kind in SAID:
            story.before[kind] = site.standing(story.pipelines[kind])
        os.kill(products["frozen"].pid, signal.SIGCONT)
        products |= {kind: story.start(kind) for kind in SAID if kind != "frozen"}
        for kind, product in products.items():
            story.ended[kind] = product.wait(), refusals(product)
            story.after[kind] = site.standing(story.pipelines[kind])
        yield story


def _lose(story: Lost, products: dict[str, Deltaforge]) -> None:
    database = story.site.database
    assert products["idle"].term() == 0, products["idle"].tail()
    database.execute("alter system set idle_replication_slot_timeout = '1s'")
    story.server.reload()
    story.lost("idle")
    assert products["removed"].term() == 0, products["removed"].tail()
    os.kill(products["frozen"].pid, signal.SIGSTOP)
    database.execute("alter system set idle_replication_slot_timeout = 0")
    story.server.reload()
    fill_wal(story.server, SEGMENTS)
    story.lost("removed", "frozen")
    insert_orders(database, MISSED)


@pytest.mark.parametrize("kind", SAID)
def test_a_slot_that_the_server_gave_up_is_refused_with_its_reason(lost: Lost, kind: str) -> None:
    """Guards against waiting for ever for WAL that is gone, and against a new slot behind it."""
    code, lines = lost.ended[kind]
    assert code == REFUSED
    assert len(lines) == 1, lines
    assert SAID[kind] in lines[0]
    assert lost.after[kind] == lost.before[kind]
    assert seen_orders(lost.site.bootstrap, lost.pipelines[kind].topic) == BEFORE


def test_a_server_whose_wal_level_was_lowered_is_waited_for(lost: Lost) -> None:
    """Guards against an exit while somebody mends the server: it does not even start with a slot it cannot serve."""
    # GIVEN a pipeline at work
    site, server = lost.site, lost.server
    pipeline = lost.pipelines["lowered"] = site.pipeline("lowered", "lowered")
    product = lost.start("lowered")
    product.wait_ready()
    # WHEN the server is restarted with wal_level lowered, which it refuses as long as there are slots
    site.database.execute("alter system set wal_level = replica")
    server.stop()
    with pytest.raises(EmbeddedError, match=r"wal_level.* < .?logical"):
        server.start()
    wait_until(lambda: states(product) == {pipeline.name: "starting"}, "it waits", lambda: alive(product))
    assert f"127.0.0.1:{server.port}" in product.pipeline(pipeline.name)["detail"]
    # AND that is put right
    with (server.data / "postgresql.auto.conf").open("a") as file:
        file.write("wal_level = logical\n")
    server.start()
    # THEN it goes on
    insert_orders(site.database, AFTER)
    wait_for_orders(site.bootstrap, pipeline.topic, AFTER, lambda: alive(product))
    assert product.term() == 0, product.tail()
    assert seen_orders(site.bootstrap, pipeline.topic) == AFTER
