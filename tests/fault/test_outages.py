"""Kafka or PostgreSQL away under load: waited out in bounded memory, and nothing lost, doubled or reordered after.

One pair of servers for all tests of the file; `tests/fault/sizes.py` says for how long one of them is away.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest
from confluent_kafka import Producer

from deltaforge.embedded.kafka import KafkaCluster
from deltaforge.embedded.postgres import PostgresServer
from tests.fault.sizes import EPOCHS, FULL, OUTAGE_S, SEED
from tests.ledger.judge import judge
from tests.ledger.workload import Workload, make_tables
from tests.support.databases import Database, create_database, drop_database
from tests.support.kafka_topics import create_topic
from tests.support.outage import ReplyAges, busiest_second, resources, wait_for_epoch
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge
from tests.support.topics import LiveReader, markers, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.ledger.outcomes import Expected
    from tests.ledger.verdict import Verdict

TIMEOUTS = {"60s": OUTAGE_S, "5s": OUTAGE_S / 2} if FULL else {"5s": OUTAGE_S}
"""wal_sender_timeout, and how long Kafka is away with it."""
GROWTH = 1.1
SETTLING = 3
"""Epochs before anything is counted."""
LOOKS = 25
"""Over five seconds."""
OLDEST_REPLY_S = 15.0
LINES_A_SECOND = 20
ROWS_PER_S = 1500.0
SENT = "deltaforge_sink_events_sent_total"
STOP_S = 20.0
"""Far above the two seconds in which we look at the server, far below the minute it would wait for us."""
BACK_S = 120.0


@dataclass
class Site:
    """A server, a broker and a pipeline between them."""

    name: str
    """The pipeline's."""
    postgres: PostgresServer
    database: Database
    kafka: KafkaCluster
    topic: str
    product: Deltaforge

    def settle(self, expected: Expected) -> Verdict:
        """The verdict on what a consumer that comes late finds, once everything has come; then ends the process."""
        with LiveReader(self.kafka.bootstrap(), self.topic) as reader, contextlib.suppress(TimeoutError):
            reader.wait_for(expected.events + expected.tombstones)
        assert self.product.term() == 0, self.product.tail()
        return judge(read(self.kafka.bootstrap(), self.topic), expected, markers(self.kafka, self.topic))

    def crashes(self) -> int:
        """Crashes of actors so far: what the outside does is not to count as one."""
        return int(self.product.metric("deltaforge_actor_restarts_total"))

    def kill_kafka(self) -> None:
        """SIGKILL to the broker."""
        process = self.kafka.node(1).process
        assert process is not None
        process.kill()

    def streams(self) -> int:
        """How many streams PostgreSQL serves just now."""
        return int(self.database.value("select count(*) from pg_stat_replication"))

    def end_stream(self) -> None:
        """Make PostgreSQL end our stream."""
        self.database.execute(
            "select pg_terminate_backend(pid) from pg_stat_replication where application_name = 'deltaforge'"
        )

    def fence(self) -> None:
        """Take the transactional id away from the running producer, as a second one with its name would."""
        name = f"deltaforge.{self.name}.orders-kafka"
        Producer({"bootstrap.servers": self.kafka.bootstrap(), "transactional.id": name}).init_transactions(30)

    def wait_until_it_reads_no_more(self) -> None:
        """Block until a second passes without an event read: every buffer is full then."""
        deadline, last = time.monotonic() + BACK_S, -1.0
        while (now := self.product.metric("deltaforge_received_events_total")) != last:
            assert time.monotonic() < deadline, self.product.tail()
            last = now
            time.sleep(1.0)

    def wait_until_it_waits(self) -> None:
        """Block until the process has noticed that Kafka is away."""
        deadline = time.monotonic() + BACK_S
        while self.product.ask("/ready")[0] == 200:
            assert time.monotonic() < deadline, self.product.tail()
            time.sleep(0.2)

    def work(self, load: Workload, events: int = 2000) -> None:
        """Let writers and pipeline work for a while."""
        load.wait_for_rows(load.rows + events)
        with LiveReader(self.kafka.bootstrap(), self.topic) as reader:
            reader.wait_for(1)


@pytest.fixture(scope="module")
def servers(kafka_jars: None) -> Iterator[tuple[PostgresServer, KafkaCluster]]:
    """Two that the tests of this file may harm, one test after the other."""
    with PostgresServer() as postgres, KafkaCluster(1) as kafka:
        yield postgres, kafka


@pytest.fixture
def make_site(
    servers: tuple[PostgresServer, KafkaCluster], topic_prefix: str, tmp_path: Path
) -> Iterator[Callable[..., Site]]:
    """Starts a process on tables and a topic of its own, and waits until it is ready; takes settings of the database.

    A server that a test before has left down is started.
    """
    sites: list[Site] = []

    def make(**settings: str) -> Site:
        # pytest's dump of all stacks is for hangs; these tests are long by design and have deadlines of their own.
        faulthandler.cancel_dump_traceback_later()
        postgres, kafka = servers
        postgres.start()
        if not kafka.node(1).running:
            kafka.start_node(1)
        database = create_database(postgres)
        for key, value in settings.items():
            database.execute(f"alter database {database.name} set {key} = '{value}'")
        make_tables(database.dsn())
        name, topic = f"outage-{topic_prefix}", create_topic(kafka.bootstrap(), f"{topic_prefix}.events", 12)
        file = write(tmp_path / "pipeline.yaml", local(name, topic))
        addresses = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": kafka.bootstrap()}
        sites.append(Site(name, postgres, database, kafka, topic, Deltaforge(file, addresses, name="outage")))
        sites[-1].product.start()
        sites[-1].product.wait_ready()
        return sites[-1]

    yield make
    for site in sites:
        site.product.close()
        if site.postgres.running:
            drop_database(site.database)


@pytest.mark.fault("K1")
@pytest.mark.slow
@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_kafka_away_under_load_is_waited_out_in_constant_memory(
    make_site: Callable[..., Site],
    timeout: str,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards against buffers that grow while nothing can be delivered, and a server that drops a client gone silent."""
    site = make_site(wal_sender_timeout=timeout)
    outage_s = TIMEOUTS[timeout]
    # GIVEN writers that never pause, and PostgreSQL asked all the time when it last heard from us
    with ReplyAges(site.database.dsn()) as replies:
        with Workload(site.database.dsn(), seed=SEED, rows_per_s=ROWS_PER_S) as load:
            site.work(load)
            # WHEN Kafka is killed and stays away
            before, lines = site.product.rss(), len(site.product.text())
            site.kill_kafka()
            killed = time.monotonic()
            site.wait_until_it_reads_no_more()
            full = time.monotonic()
            early = site.product.rss()
            # THEN the process says so, and what it waits for
            site.wait_until_it_waits()
            _assert_it_says_what_it_waits_for(site)
            _until(max(killed + outage_s, full + outage_s / 2))
            late, crashes = site.product.rss(), site.crashes()
            busiest = busiest_second(site.product.text()[lines:])
            said = site.product.text()[lines:].count("\n")
            # AND when Kafka is back it goes on by itself
            site.kafka.start_node(1)
            back = time.monotonic()
            site.product.wait_ready(BACK_S)
            recovered_s = time.monotonic() - back
            site.work(load)
        verdict = site.settle(load.expected())
    record_property("verdict", verdict.totals)
    record_property("memory_growth", round(late / early, 3))
    record_property("recovered_s", round(recovered_s, 1))
    with capsys.disabled():
        print(
            f"\nKafka away for {outage_s:.0f} s, wal_sender_timeout {timeout}: RSS {before / 2**20:.1f} MiB before, "
            f"{early / 2**20:.1f} at {full - killed:.0f} s, {late / 2**20:.1f} at {outage_s:.0f} s "
            f"(x {late / early:.3f}); oldest reply {replies.oldest_s:.1f} s in {replies.samples} looks; "
            f"{said} log lines, at most {busiest} in a second; ready {recovered_s:.1f} s after Kafka; "
            f"{load.rows} rows written; {verdict}"
        )
    assert verdict.clean, str(verdict)
    assert late <= GROWTH * early
    assert replies.samples > 0
    assert replies.oldest_s < OLDEST_REPLY_S
    assert busiest <= LINES_A_SECOND
    assert crashes == 0, site.product.tail()


@pytest.mark.fault("G1", "G2")
@pytest.mark.slow
def test_postgres_restarted_under_load_is_never_held_up_by_us(
    make_site: Callable[..., Site],
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards against a walsender that the server waits for in vain, above all while Kafka keeps us from confirming."""
    site = make_site()
    stops: dict[str, float] = {}
    with Workload(site.database.dsn(), seed=SEED, rows_per_s=ROWS_PER_S) as load:
        # WHEN PostgreSQL is restarted, smart first, which waits for us, then crashed, with Kafka there
        for how in ("smart, then fast", "immediate"):
            site.work(load)
            if how.startswith("smart"):
                _stop_smart(site, load)
            stops[how] = _restart(site, immediate=how == "immediate")
            site.product.wait_ready(BACK_S)
        # AND restarted fast while Kafka is away and changes wait for it
        site.work(load)
        site.kill_kafka()
        load.wait_for_rows(load.rows + 5000)
        site.wait_until_it_waits()
        assert site.streams() == 1
        stops["fast, without Kafka"] = _restart(site, immediate=False)
        load.wait_for_rows(load.rows + 1000)
        site.kafka.start_node(1)
        # THEN it goes on by itself each time
        site.product.wait_ready(BACK_S)
        site.work(load)
    crashes = site.crashes()
    verdict = site.settle(load.expected())
    record_property("verdict", verdict.totals)
    record_property("stopped_s", {how: round(seconds, 1) for how, seconds in stops.items()})
    with capsys.disabled():
        figures = ", ".join(f"{how} {seconds:.1f} s" for how, seconds in stops.items())
        print(f"\nPostgreSQL stopped: {figures}; {load.rows} rows written; {verdict}")
    # AND no stop needed force
    assert max(stops.values()) < STOP_S
    assert verdict.clean, str(verdict)
    assert crashes == 0, site.product.tail()


@pytest.mark.fault("G3", "K18")
@pytest.mark.slow
def test_new_epochs_leave_no_threads_and_descriptors_behind(
    make_site: Callable[..., Site],
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards against producers and connections that outlive their epoch."""
    site = make_site()
    seen = []
    with Workload(site.database.dsn(), seed=SEED, rows_per_s=500) as load:
        # WHEN one epoch after another is ended by the server, or because Kafka fences the producer
        for number in range(EPOCHS + SETTLING):
            epoch = site.product.pipeline(site.name)["epoch"]
            if number % 2:
                site.fence()
            else:
                site.end_stream()
            wait_for_epoch(site.product, site.name, epoch + 1)
            if number >= SETTLING:
                seen.append(resources(site.product))
        site.work(load, 100)
        # A connection may be on its way in or out at any one moment: what was left behind is there at every moment.
        late = [resources(site.product)]
        while len(late) < LOOKS:
            time.sleep(0.2)
            late.append(resources(site.product))
    verdict = site.settle(load.expected())
    first, last = seen[0], seen[-1]
    record_property("verdict", verdict.totals)
    record_property("threads", [first.threads, last.threads])
    record_property("descriptors", [first.descriptors, last.descriptors])
    with capsys.disabled():
        print(
            f"\n{EPOCHS} epochs: threads {first.threads} -> {last.threads}, descriptors {first.descriptors} -> "
            f"{last.descriptors}, RSS {first.rss / 2**20:.1f} -> {last.rss / 2**20:.1f} MiB; {verdict}"
        )
    # THEN the last leaves as much behind as the first
    early = seen[: EPOCHS // 4]
    assert min(each.threads for each in late) <= max(each.threads for each in early)
    assert min(each.descriptors for each in late) <= max(each.descriptors for each in early)
    assert verdict.clean, str(verdict)


def _stop_smart(site: Site, load: Workload) -> None:
    """Ask PostgreSQL to stop once everybody has gone, and see that whoever is there goes on, ourselves included."""
    os.kill(int((site.postgres.data / "postmaster.pid").read_text().split()[0]), signal.SIGTERM)
    deadline = time.monotonic() + BACK_S
    while not _shuts_down(site.database.dsn()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    sent = site.product.metric(SENT)
    load.wait_for_rows(load.rows + 1000, BACK_S)
    while site.product.metric(SENT) < sent + 1000:
        assert time.monotonic() < deadline, site.product.tail()
        time.sleep(0.1)
    assert site.product.pipeline(site.name)["state"] == "running"


def _shuts_down(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError as error:
        return "is shutting down" in str(error)
    return False


def _restart(site: Site, *, immediate: bool) -> float:
    """Stop and start PostgreSQL. Returns the seconds the stop took; `STOP_S` when only SIGKILL helped."""
    began = time.monotonic()
    site.postgres.stop(immediate=immediate, grace_s=STOP_S)
    took = time.monotonic() - began
    site.postgres.start()
    return took


def _until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _assert_it_says_what_it_waits_for(site: Site) -> None:
    assert site.product.ask("/health")[0] == 200
    status, body = site.product.ask("/ready")
    assert status == 503, body
    assert b"kafka" in body.lower(), body
    view = site.product.pipeline(site.name)
    assert view["state"] == "starting"
    assert "Kafka" in view["detail"] or "broker" in view["detail"], view["detail"]
    assert json.loads(site.product.ask("/health")[1])
