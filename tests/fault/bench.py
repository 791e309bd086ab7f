"""A pipeline on real servers, with a process for every set of failpoints."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import time
from typing import TYPE_CHECKING

from tests.fault.sizes import SEED
from tests.ledger.judge import judge
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import Plan
from tests.support.instances import alive
from tests.support.kafka_topics import create_topic
from tests.support.orders import wait_until
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge
from tests.support.topics import markers, read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.fault.points import Point
    from tests.ledger.outcomes import Expected
    from tests.ledger.verdict import Verdict
    from tests.support.databases import Database
    from tests.support.pipelines import Document
    from tests.support.topics import LiveReader

ROWS_PER_S = 400.0
HIT_S = 90.0
BESIDE = frozenset({"reader.before_feedback", "reader.after_feedback"})
"""Places in a task beside the actor's own, which nobody can cancel but the actor."""
STALL_AFTER_S = "3"
TOGETHER = 4
"""Crashes of one supervisor in one process; five are allowed within a minute."""


class Bench:
    """One pipeline with its tables and topic. Ends its processes when it is left."""

    def __init__(
        self, kafka: KafkaCluster, database: Database, directory: Path, prefix: str, *, partitions: int = 3
    ) -> None:
        """Make the tables and the topic; nothing runs yet."""
        # pytest's dump of all stacks is for hangs; these tests are long by design and have deadlines of their own.
        faulthandler.cancel_dump_traceback_later()
        self.kafka, self.database, self._directory, self._name = kafka, database, directory, f"points-{prefix}"
        self.topic = create_topic(kafka.bootstrap(), f"{prefix}.events", partitions)
        self.document: Document = local(self._name, self.topic)
        self._made: list[Deltaforge] = []
        make_tables(database.dsn())

    def start(self, *points: tuple[str, str, int], arguments: Sequence[str] = ()) -> Deltaforge:
        """Start a process in which these failpoints (name, action, pass) are armed."""
        file = write(self._directory / "pipeline.yaml", self.document)
        armed = ",".join(f"{name}={action}@{at}" for name, action, at in points)
        servers = {"POSTGRES_DSN": self.database.dsn(), "KAFKA_BROKERS": self.kafka.bootstrap()}
        environment = {**servers, "DELTAFORGE_FAILPOINTS": armed}
        product = Deltaforge(file, environment, arguments=arguments, name="failpoints")
        self._made.append(product)
        product.start()
        return product

    def born(self) -> None:
        """The first start, before there is any load: the slot has to stand before the first row."""
        product = self.start()
        product.wait_ready()
        assert product.term() == 0, product.tail()

    def load(self, max_rows: int = 60) -> Workload:
        """Writers, to be started with `with`."""
        plan = Plan(max_rows=max_rows)
        return Workload(self.database.dsn(), seed=SEED, writers=2, rows_per_s=ROWS_PER_S, plan=plan)

    def kill_at(self, name: str, at: int, *more: tuple[str, str, int]) -> None:
        """A process that dies at this pass of this failpoint."""
        product = self.start((name, "kill", at), *more)
        code = product.wait(HIT_S)
        assert code == -signal.SIGKILL, f"{name}@{at}: exit {code}\n{product.tail()}"

    def crash_at(self, points: Sequence[tuple[str, str, int]], *more: tuple[str, str, int]) -> None:
        """A process in which each of these failpoints (name, action, pass) acts, and which goes on; ended in order."""
        product = self.start(*points, *more)
        deadline = time.monotonic() + HIT_S
        while missing := [name for name, _, _ in points if f"failpoint {name}" not in product.text()]:
            assert product.running, product.tail()
            assert time.monotonic() < deadline, f"not hit: {missing}\n{product.tail()}"
            time.sleep(0.05)
        product.wait_ready()
        assert product.term() == 0, product.tail()

    def stall_at(self, name: str, at: int) -> None:
        """A process that hangs at this pass of this failpoint, is found silent, and goes on."""
        product = self.start((name, "stall", at), arguments=["--stall-after", STALL_AFTER_S])
        wait_until(lambda: "StallDetected" in product.text(), f"{name}@{at} is found silent", lambda: alive(product))
        product.wait_ready()
        assert product.term() == 0, product.tail()

    def finish(self, load: Workload, reader: LiveReader) -> Expected:
        """Let a process without failpoints deliver the rest."""
        product = self.start()
        load.stop()
        expected = load.expected()
        with contextlib.suppress(TimeoutError):
            reader.wait_for(expected.events + expected.tombstones)
        # At least once, repeated rows have been counted as well: a drain is no catching up.
        deadline = time.monotonic() + HIT_S
        while judge(reader.records, expected).troubles["lost"] and time.monotonic() < deadline:
            time.sleep(0.5)
        product.wait_ready()
        assert product.term() == 0, product.tail()
        return expected

    def final(self, expected: Expected, *, marked: bool = True) -> Verdict:
        """What a reader that comes later sees. `marked`: also that no source transaction is torn."""
        marks = markers(self.kafka, self.topic) if marked else ()
        return judge(read(self.kafka.bootstrap(), self.topic), expected, marks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for product in self._made:
            product.close()


def in_turn(points: Sequence[Point], actions: Sequence[str]) -> list[tuple[str, str, int]]:
    """These points with one of the actions each, in turn. What no cancellation reaches raises."""
    found = [(name, actions[number % len(actions)], at) for number, (name, at) in enumerate(points)]
    return [(name, "raise" if name in BESIDE else action, at) for name, action, at in found]


def chunks(points: Sequence[tuple[str, str, int]]) -> list[Sequence[tuple[str, str, int]]]:
    """As many as one supervisor may bear in a minute."""
    return [points[at : at + TOGETHER] for at in range(0, len(points), TOGETHER)]
