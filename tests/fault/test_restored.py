"""A server put back to an older state is the same server to everybody who asks its name: its history tells.

One server carries every case. Its data are copied, it writes on, all pipelines deliver that, and the copy takes its
place: what was written since exists in Kafka alone. Then it is started from, step by step: as it was, after it has
written past every checkpoint, on a timeline that began above the checkpoints, and on one that began below.
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.postgres import PostgresServer
from tests.ledger.judge import judge
from tests.ledger.rows import EXAMPLE, LEDGER
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import FULL
from tests.support.copies import keep, put_back, recover
from tests.support.databases import create_database, fill_wal
from tests.support.instances import Pipeline, Site, Standing, alive, refusals
from tests.support.orders import insert_orders, seen_orders, wait_until
from tests.support.topics import LiveReader, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.ledger.outcomes import Expected
    from tests.support.databases import Database
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("G5")]

REFUSED = 4
LSN = r"[0-9A-F]+/[0-9A-F]+"
SHORTER = rf"the server's WAL ends at {LSN}, before the checkpoint at {LSN}"
OTHER = rf"history differs: the checkpoint stands on {LSN} \(xid \d+\) and flushed {LSN}, but "
SAID = {
    # kind: what must be said. The kinds are what the server had become when their pipelines were started.
    "alive": SHORTER,
    "past": OTHER + "the stream went on to",
    "quiet": OTHER + rf"a change at {LSN} appeared below the confirmed position",
    "timeline-above": OTHER + "the stream went on to",
    "timeline-below": rf"timeline 1 ended at {LSN}, before the checkpoint at {LSN}",
}
BUSY = [kind for kind in SAID if kind != "quiet"]
ROWS = 150
QUIET = [1, 2, 3]
LATE = 9_000_000
"""Orders from here on exist on the restored server only."""


@dataclass
class Restored:
    """What was seen. `alive` runs all the time; `quiet` reads a database of its own, in which little happens."""

    site: Site
    quiet: Database
    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    products: list[Deltaforge] = field(default_factory=list)
    expected: Expected = field(init=False)
    """Of the busy database, when the older state took its place."""
    before: dict[str, Standing] = field(default_factory=dict)
    after: dict[str, Standing] = field(default_factory=dict)
    ended: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    """Exit code and refusals."""

    @property
    def server(self) -> PostgresServer:
        """The one that is restored."""
        return self.quiet.server

    def running(self) -> None:
        """Raises AssertionError when a process has ended."""
        for product in self.products:
            alive(product)

    def start(self, *kinds: str) -> None:
        """Start these pipelines, each in a process of its own, and keep how they end."""
        for kind in kinds:
            self.before[kind] = self.site.standing(self.pipelines[kind])
        products = {kind: self.site.process(self.pipelines[kind].file, name=f"restored-{kind}") for kind in kinds}
        for product in products.values():
            product.start()
        for kind, product in products.items():
            self.end(kind, product)

    def end(self, kind: str, product: Deltaforge) -> None:
        """Keep how this one ends."""
        self.ended[kind] = product.wait(), refusals(product)
        self.after[kind] = self.site.standing(self.pipelines[kind])


@pytest.fixture(scope="module")
def restored(kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    """The whole story."""
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer(options={"max_prepared_transactions": "20"}))
        database, quiet = create_database(server), create_database(server)
        make_tables(database.dsn(), ledger=True)
        make_tables(quiet.dsn())
        directory, prefix = tmp_path_factory.mktemp("restored"), f"g{database.name[-8:]}"
        story = Restored(stack.enter_context(Site(kafka, database, directory, prefix)), quiet)
        for kind in SAID:
            everything = [f"public.{table}" for table in EXAMPLE + LEDGER]
            source = {"dsn": quiet.dsn()} if kind == "quiet" else {"tables": everything}
            story.pipelines[kind] = story.site.pipeline(kind, "alive" if kind == "alive" else "all", source=source)
        kept, end = _deliver_and_lose(story)
        _start_step_by_step(story, kept, end)
        yield story


def _deliver_and_lose(story: Restored) -> tuple[Path, str]:
    """Returns the older state, and where the WAL ended that came after it."""
    site, server = story.site, story.server
    for folder in ("all", "alive"):
        story.products.append(site.process(site.directory / folder, name=f"restored-{folder}-at-work"))
        story.products[-1].start()
    for product in story.products:
        product.wait_ready()
    insert_orders(story.quiet, QUIET)
    with Workload(site.database.dsn(), seed=41, writers=2, plan=FULL) as load:
        load.wait_for_rows(ROWS)
        # The slot of the quiet pipeline leaves its last row behind.
        _confirm_idle(story, "quiet")
        server.stop()
        kept = keep(server)
        server.start()
        load.wait_for_rows(load.rows + ROWS)
    story.expected = load.expected()
    for kind in BUSY:
        with LiveReader(site.bootstrap, story.pipelines[kind].topic) as reader:
            reader.wait_for(story.expected.events + story.expected.tombstones)
    _confirm_idle(story, *story.pipelines)
    assert story.products[0].term() == 0, story.products[0].tail()
    end = _wal_end(story)
    server.stop()
    return kept, end


def _start_step_by_step(story: Restored, kept: Path, end: str) -> None:
    server, waiting = story.server, story.products[1]
    put_back(server, kept)
    os.kill(waiting.pid, signal.SIGSTOP)
    server.start()
    story.before["alive"] = story.site.standing(story.pipelines["alive"])
    os.kill(waiting.pid, signal.SIGCONT)
    story.end("alive", waiting)
    _write_past(story, end)
    story.start("past", "quiet")
    server.stop()
    recover(server)
    story.start("timeline-above")
    server.stop()
    put_back(server, kept)
    recover(server)
    _write_past(story, end)
    story.start("timeline-below")


def _confirm_idle(story: Restored, *kinds: str) -> None:
    """Block until the slots stand behind all that was written so far, with WAL in which nothing is for them."""
    fill_wal(story.server, 1)
    behind = _wal_end(story)
    # More than 16 MiB: then a pipeline writes down how far it has come without a row.
    fill_wal(story.server, 2)
    names = [story.pipelines[kind].slot for kind in kinds]
    query = "select count(*) from pg_replication_slots where slot_name = any(%s) and confirmed_flush_lsn >= %s::pg_lsn"

    def reached() -> bool:
        return bool(story.quiet.value(query, [names, behind]) == len(names))

    wait_until(reached, f"{names} are confirmed to {behind}", story.running)


def _write_past(story: Restored, end: str) -> None:
    """Let the restored server write until its WAL is longer than the one that was lost."""
    number = LATE
    for database in (story.quiet, story.site.database):
        insert_orders(database, [LATE])
    while not story.quiet.value("select pg_current_wal_lsn() > %s::pg_lsn", [end]):
        fill_wal(story.server, 1)
        number += 1
        insert_orders(story.site.database, [number])


def _wal_end(story: Restored) -> str:
    return str(story.quiet.value("select pg_current_wal_lsn()::text"))


@pytest.mark.parametrize("kind", SAID)
def test_a_server_that_has_lost_history_is_refused_and_the_reason_named(restored: Restored, kind: str) -> None:
    """Guards against new rows being taken for known ones, because their LSNs are."""
    code, lines = restored.ended[kind]
    assert code == REFUSED
    assert len(lines) == 1, lines
    assert re.search(SAID[kind], lines[0]), lines[0]


@pytest.mark.parametrize("kind", SAID)
def test_nothing_is_moved_or_written_for_a_server_that_has_lost_history(restored: Restored, kind: str) -> None:
    """Guards what an operator needs to compare: the slot, and topics that hold the lost history to its end."""
    assert restored.after[kind] == restored.before[kind]
    topic = restored.pipelines[kind].topic
    if kind == "quiet":
        assert seen_orders(restored.site.bootstrap, topic) == QUIET
    else:
        verdict = judge(read(restored.site.bootstrap, topic), restored.expected)
        assert verdict.clean, str(verdict)
        assert verdict.events > ROWS
