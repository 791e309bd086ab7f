"""Two failovers of a pair of servers with writers at work, and what becomes of pipelines whose slot came along or not.

The first one loses nothing: the standby confirms every commit, and its copies of the failover slots lag behind what
was delivered, as they do. In the second one the standby missed the end of the WAL, which had been delivered.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.errors import BinariesMissing
from deltaforge.embedded.postgres import PostgresServer
from tests.fault import sizes
from tests.ledger.judge import judge
from tests.ledger.rows import EXAMPLE, LEDGER
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import FULL
from tests.support.available import unavailable
from tests.support.copies import STANDBY, add_standby, catch_up, promote, synchronise
from tests.support.databases import Database, create_database
from tests.support.instances import Pipeline, Site, Standing, alive, refusals, wait_states
from tests.support.orders import insert_orders, seen_orders, wait_for_orders
from tests.support.topics import LiveReader, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.ledger.verdict import Verdict
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("G4")]

REFUSED = 4
LSN = r"[0-9A-F]+/[0-9A-F]+"
VERSIONS = (18, 17) if sizes.FULL else (18,)
"""Failover slots came with 17."""
ROWS = 300
LATE = 9_000_000
"""Orders of the quiet database from here on exist on the second standby only."""
OPTIONS = {"max_prepared_transactions": "20", "wal_sender_timeout": "5s"}


@dataclass
class Pair:
    """Three pipelines in a process that knows the addresses of both servers.

    `busy` reads what writers write, `quiet` a database in which little happens, `bare` reads what `busy` reads, but
    from a slot that is no failover slot.
    """

    site: Site
    """Its database is the busy one, on whichever server is the primary."""
    quiet: Database
    product: Deltaforge = field(init=False)
    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    orders: list[int] = field(default_factory=list)
    """Of the quiet database, as far as they are to be delivered."""
    lagging: tuple[str, str] = ("", "")
    """Where the slot of `busy` stood on the standby and on the primary."""
    verdict: Verdict = field(init=False)
    """On `busy` after the first failover."""
    refusals: list[str] = field(default_factory=list)
    """Of the first failover."""
    bare: tuple[Standing, Standing] = field(init=False)
    """Before the first failover (at the latest) and at the end of it."""
    second: tuple[Standing, Standing] = field(init=False)
    """Of `quiet`, before and after the start that followed the second failover."""
    ended: tuple[int, list[str]] = (0, [])
    """How that start ended."""

    def alive(self) -> None:
        """Raises AssertionError when the process has ended."""
        alive(self.product)

    def order(self) -> None:
        """One more for the quiet pipeline."""
        self.orders.append(len(self.orders) + 1)
        insert_orders(self.quiet, self.orders[-1:])

    def ordered(self) -> None:
        """Block until all of those are delivered."""
        wait_for_orders(self.site.bootstrap, self.pipelines["quiet"].topic, self.orders, self.alive)

    def moved(self, server: PostgresServer) -> None:
        """This server is the primary from now on."""
        self.site.database = Database(server, self.site.database.name)
        self.quiet = Database(server, self.quiet.name)


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda version: f"pg{version}")
def pair(
    request: pytest.FixtureRequest, kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """The whole story."""
    with ExitStack() as stack:
        primary = PostgresServer(request.param, options=OPTIONS)
        stack.callback(primary.close)
        try:
            primary.start()
        except BinariesMissing as error:
            unavailable(error)
        databases = [create_database(primary), create_database(primary)]
        for database in databases:
            make_tables(database.dsn(), ledger=True)
        standby = add_standby(primary, {})
        stack.callback(standby.close)
        directory = tmp_path_factory.mktemp("failover")
        site = stack.enter_context(Site(kafka, databases[0], directory, f"f{databases[0].name[-8:]}"))
        story = Pair(site, databases[1])
        _start(story, primary, standby)
        _first(story, primary, standby)
        _second(story, standby, stack)
        yield story


def _both(database: Database, *servers: PostgresServer) -> str:
    """One address for whichever of the servers takes writes."""
    hosts = ",".join(f"{server.host}:{server.port}" for server in servers)
    return f"postgresql://postgres@{hosts}/{database.name}?target_session_attrs=read-write"


def _start(story: Pair, *servers: PostgresServer) -> None:
    tables = [f"public.{table}" for table in EXAMPLE + LEDGER]
    for name in ("busy", "quiet", "bare"):
        dsn = "${QUIET_DSN}" if name == "quiet" else "${BUSY_DSN}"
        source = {"dsn": dsn, "tables": tables, "failover": name != "bare"}
        story.pipelines[name] = story.site.pipeline(name, source=source)
    dsns = {"BUSY_DSN": _both(story.site.database, *servers), "QUIET_DSN": _both(story.quiet, *servers)}
    story.product = story.site.process(story.pipelines["busy"].file.parent, name="failover", extra=dsns)
    story.product.start()
    story.product.wait_ready()


def _first(story: Pair, primary: PostgresServer, standby: PostgresServer) -> None:
    """Neither commits nor streams get ahead of the standby; the copies of the slots are of some time before."""
    site, busy, quiet = story.site, story.pipelines["busy"], story.pipelines["quiet"]
    for name in ("synchronous_standby_names", "synchronized_standby_slots"):
        site.database.execute(f"alter system set {name} = '{STANDBY}'")
    primary.reload()
    dsn = _both(site.database, primary, standby)
    with Workload(dsn, seed=51, writers=2, plan=FULL) as load, LiveReader(site.bootstrap, busy.topic) as reader:
        reader.wait_for(ROWS // 2)
        synchronise(primary, standby, {busy.slot, quiet.slot}, story.order)
        story.ordered()
        reader.wait_for(reader.count + ROWS)
        copied = Database(standby, site.database.name)
        story.lagging = str(Site(site.kafka, copied, site.directory, "").confirmed(busy)), str(site.confirmed(busy))
        primary.kill()
        promote(standby)
        story.moved(standby)
        reader.wait_for(reader.count + ROWS)
        load.stop()
        expected = load.expected()
        wait_states(story.product, [story.pipelines["bare"]], "refused")
        before = site.standing(story.pipelines["bare"])
        story.order()
        story.ordered()
        reader.wait_for(expected.events + expected.tombstones)
    story.verdict = judge(read(site.bootstrap, busy.topic), expected)
    story.bare = before, site.standing(story.pipelines["bare"])
    story.refusals = refusals(story.product)


def _second(story: Pair, primary: PostgresServer, stack: ExitStack) -> None:
    """The standby lacks what was delivered last, and has written on past it since."""
    site, quiet = story.site, story.pipelines["quiet"]
    standby = add_standby(primary, {"synchronous_standby_names": ""})
    stack.callback(standby.close)
    synchronise(primary, standby, {quiet.slot}, story.order)
    catch_up(primary, standby)
    standby.stop()
    story.order()
    story.ordered()
    assert story.product.term() == 0, story.product.tail()
    end = story.quiet.value("select pg_current_wal_lsn()::text")
    primary.kill()
    standby.start()
    promote(standby)
    story.moved(standby)
    number = LATE
    while number == LATE or not story.quiet.value("select pg_current_wal_lsn() > %s::pg_lsn", [end]):
        insert_orders(story.quiet, [number])
        number += 1
    before = site.standing(quiet)
    dsn = _both(story.quiet, primary, standby)
    successor = site.process(quiet.file, name="failover-second", extra={"QUIET_DSN": dsn})
    successor.start()
    story.ended = successor.wait(), refusals(successor)
    story.second = before, site.standing(quiet)


def test_a_failover_slot_that_lags_behind_is_gone_on_from_without_loss_or_repetition(pair: Pair) -> None:
    """Guards against rows that the new primary sends again, and against halts where nothing is wrong."""
    copied, confirmed = pair.lagging
    assert pair.site.database.value("select %s::pg_lsn < %s::pg_lsn", [copied, confirmed]), pair.lagging
    assert pair.verdict.clean, str(pair.verdict)


def test_a_pipeline_in_which_nothing_happened_goes_on_after_a_failover(pair: Pair) -> None:
    """Guards against a position that only a new row would bring to the new primary."""
    assert seen_orders(pair.site.bootstrap, pair.pipelines["quiet"].topic) == pair.orders


def test_a_failover_without_the_slot_is_refused(pair: Pair) -> None:
    """Guards against a new slot that begins where the changes before it are lost."""
    (line,) = pair.refusals
    bare = pair.pipelines["bare"]
    found = re.search(rf"does not exist, expected it at ({LSN}) .*: changes between \1 and {LSN}.* would be lost", line)
    assert line.startswith(f"pipeline {bare.name} refused: ")
    assert found, line
    assert f"--accept-gap={found[1]}" in line
    assert pair.bare[0] == pair.bare[1]
    assert pair.bare[0].confirmed is None
    assert pair.bare[0].records > ROWS // 2


def test_a_failover_that_lost_what_was_delivered_is_refused(pair: Pair) -> None:
    """Guards against rows of the new primary that are skipped because their LSNs were used before."""
    code, lines = pair.ended
    assert code == REFUSED
    assert len(lines) == 1, lines
    assert re.search(rf"timeline 2 ended at {LSN}, before the checkpoint at {LSN}", lines[0]), lines[0]
    assert pair.second[0] == pair.second[1]
    assert pair.second[0].confirmed is not None
