"""Two instances of one pipeline: one works, the other stands by, whoever dies and whoever comes back first.

`tests/fault/sizes.py` says how many races there are.
"""

from __future__ import annotations

import contextlib
import faulthandler
import random
import statistics
import time
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import RACES, SEED
from tests.ledger.judge import judge
from tests.ledger.workload import Workload, make_tables
from tests.support.databases import create_database, drop_database
from tests.support.instances import Pipeline, Site, alive, states
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until
from tests.support.topics import LiveReader, Watch, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.ledger.outcomes import Expected
    from tests.ledger.verdict import Verdict
    from tests.support.process import Deltaforge

pytestmark = pytest.mark.slow

ROWS_PER_S = 1000.0
PIPELINES = 2
"""Pipelines in each process of a race for the first start: so many races in one pair of processes."""
SETTLED = {"running", "standby"}


@pytest.fixture
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A database with the tables."""
    # These tests are long by design and have deadlines of their own.
    faulthandler.cancel_dump_traceback_later()
    database = create_database(postgres)
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path_factory.mktemp("two"), f"i{database.name[-8:]}") as made:
        yield made
    drop_database(database)


class Pair:
    """Two instances of one pipeline under load."""

    def __init__(self, site: Site, pipeline: Pipeline, reader: LiveReader) -> None:
        """Nothing runs yet."""
        self._site, self.pipeline, self._reader = site, pipeline, reader
        self.instances = [site.process(pipeline.file, name=f"two-{which}") for which in "ab"]
        self.takeover_s: list[float] = []
        """Seconds from the kill to the first record that a read_committed consumer saw of a newer transaction."""
        self.returned = 0
        """How often the killed one came back so fast that it took its place again."""

    def active(self) -> Deltaforge | None:
        """The instance whose reader streams; None while none does."""
        found = [each for each in self.instances if each.running and self.state(each) == "running"]
        assert len(found) < len(self.instances), "both say that they work"
        return found[0] if found else None

    def state(self, product: Deltaforge) -> str:
        """What an instance says of itself; empty while it is not up."""
        return states(product).get(self.pipeline.name, "")

    def wait_active(self) -> Deltaforge:
        """Block until one of them works."""
        wait_until(lambda: self.active() is not None, "one instance works", self.alive)
        found = self.active()
        return found or self.wait_active()

    def wait_settled(self) -> None:
        """Block until one works and the other stands by."""
        wait_until(lambda: {self.state(each) for each in self.instances} == SETTLED, "one works, one waits", self.alive)

    def alive(self) -> None:
        """Raises AssertionError when one of them has ended by itself."""
        for each in self.instances:
            alive(each)

    def kill_active(self, *, back_after_s: float | None) -> None:
        """SIGKILL the one that works; start it again so much later, or not before somebody has taken over (None)."""
        killed = self.wait_active()
        killed.kill9()
        began = time.monotonic()
        if back_after_s is not None:
            time.sleep(back_after_s)
            killed.start()
        # What the dead one had committed was seen long before a successor can say that it works.
        other = next(each for each in self.instances if each is not killed)
        wait_until(lambda: "running" in map(self.state, self.instances), "one took over", lambda: alive(other))
        before = self._reader.count
        self._reader.wait_for(before + 1)
        self.takeover_s.append(time.monotonic() - began)
        self.returned += self.state(killed) == "running" if killed.running else 0
        if back_after_s is None:
            killed.start()


@pytest.mark.fault("X1", "G8")
def test_one_instance_works_the_other_waits_and_roles_change_without_loss(
    site: Site, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against two writers, against a standby that never takes over, and against fencing the rightful one."""
    pipeline = site.pipeline("roles", "roles")
    rng = random.Random(SEED)
    began = time.monotonic()
    with LiveReader(site.bootstrap, pipeline.topic) as reader, Watch(site.bootstrap, pipeline.topic) as watch:
        pair = Pair(site, pipeline, reader)
        first, second = pair.instances
        # GIVEN one that works and one that waits, which is ready all the same and keeps out of Kafka
        first.start()
        first.wait_ready()
        second.start()
        second.wait_ready()
        assert (pair.state(first), pair.state(second)) == ("running", "standby")
        assert second.pipeline(pipeline.name)["sinks"][0]["commits"] == 0
        with Workload(site.database.dsn(), seed=SEED, rows_per_s=ROWS_PER_S) as load:
            reader.wait_for(1)
            # WHEN the first is killed and left dead, the second works
            pair.kill_active(back_after_s=None)
            assert pair.active() is second
            # and WHEN whoever works is killed and comes back at once, again and again
            for _ in range(RACES):
                if rng.random() < 0.5:
                    pair.wait_settled()
                time.sleep(rng.uniform(0.0, 0.3))
                watch.wait()
                pair.kill_active(back_after_s=0.0)
            pair.wait_settled()
        expected = load.expected()
        # THEN both a reader that was there all the time and one that comes later see every version exactly once
        live = _settled(reader, expected)
    final = judge(read(site.bootstrap, pipeline.topic), expected)
    lines = [line for each in pair.instances for line in each.text().splitlines()]
    doubts = [line for line in lines if '"rewinding"' in line]
    record_property("verdict", final.totals)
    record_property("takeover_s", [round(seconds, 1) for seconds in pair.takeover_s])
    with capsys.disabled():
        print(_table(pair, load, final, len(doubts), time.monotonic() - began))
    assert live.clean, str(live)
    assert final.clean, str(final)
    # Nobody but the slot's holder makes a producer, so nobody is ever fenced.
    assert [line for line in lines if "FENCED" in line] == []
    assert [each.term() for each in pair.instances] == [0, 0]


def _settled(reader: LiveReader, expected: Expected) -> Verdict:
    """The verdict once everything that must come has come, or nothing more comes."""
    with contextlib.suppress(TimeoutError):
        reader.wait_for(expected.events + expected.tombstones)
    return judge(reader.records, expected)


def _table(pair: Pair, load: Workload, verdict: Verdict, doubts: int, seconds: float) -> str:
    first, *others = pair.takeover_s
    return "\n".join(
        [
            "",
            f"take-over by the standby       {first:.1f} s from the kill to the next record",
            f"races                          {len(others)} (seed {SEED}), {pair.returned} won by the one killed",
            f"kill to next record            median {statistics.median(others):.1f} s, worst {max(others):.1f} s",
            f"row changes / events           {load.rows} / {verdict.events}",
            f"doubts of either instance      {doubts}",
            f"verdict                        {'clean' if verdict.clean else dict(verdict.troubles)}",
            f"wall time                      {seconds:.0f} s",
        ]
    )


@pytest.mark.fault("X1")
def test_two_instances_that_start_for_the_very_first_time_together_agree(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards against one that exits, two slots' worth of rows, or a position that only one of them knows."""
    rng = random.Random(SEED)
    began = time.monotonic()
    won: list[int] = []
    for number in range(0, RACES, PIPELINES):
        # GIVEN names that neither server has seen
        pipelines = [site.pipeline(f"{each}", f"first-{number}") for each in range(number, number + PIPELINES)]
        pair = [site.process(pipelines[0].file.parent, name=f"first-{which}") for which in "ab"]
        # WHEN two processes start with them at the same moment
        for product in pair:
            product.start()
            time.sleep(rng.choice((0.0, rng.uniform(0.0, 0.3))))
        # THEN
        won += _race(site, pipelines, pair, number)
    with capsys.disabled():
        seconds = time.monotonic() - began
        print(f"\nfirst starts raced {len(won)}, won by the one started first {won.count(0)}, {seconds:.0f} s")


def _race(site: Site, pipelines: list[Pipeline], pair: list[Deltaforge], number: int) -> list[int]:
    """Each pipeline works in one process and stands by in the other. Returns in which, pipeline by pipeline."""

    def both() -> None:
        for product in pair:
            alive(product)

    wait_until(lambda: all(_agreed(pair, each) for each in pipelines), "one works, the other stands by", both)
    insert_orders(site.database, [number])
    for each in pipelines:
        wait_for_orders(site.bootstrap, each.topic, [number], both)
    won = [[states(product)[each.name] for product in pair].index("running") for each in pipelines]
    for product in pair:
        # Nobody doubted, refused or fenced anything on the way.
        assert not any(word in product.text() for word in ("FENCED", "refused", "rewinding")), product.text()
    # A successor goes on from what the two of them wrote.
    pair[0].kill9()
    insert_orders(site.database, [number + 1])
    for each in pipelines:
        wait_for_orders(site.bootstrap, each.topic, [number + 1], lambda: alive(pair[1]))
        assert seen_orders(site.bootstrap, each.topic) == [number, number + 1]
    pair[1].kill9()
    return won


def _agreed(pair: list[Deltaforge], pipeline: Pipeline) -> bool:
    return {states(product).get(pipeline.name, "") for product in pair} == SETTLED
