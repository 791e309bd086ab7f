"""The process dies, or a task of it raises, at every named place of the protocol: nothing lost, doubled or torn.

Real servers, a process per kill, several raises per process. `DELTAFORGE_FAILPOINT_ROUNDS=n` hits every place n times
more, at later and later passes; `DELTAFORGE_SEED` makes other rows.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import signal
import time
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import deltaforge
from tests.ledger.judge import judge
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import Plan
from tests.support.kafka_topics import create_topic
from tests.support.pipelines import kafka_config, local, write
from tests.support.process import Deltaforge
from tests.support.topics import LiveReader, markers, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.ledger.outcomes import Expected
    from tests.ledger.verdict import Verdict
    from tests.support.databases import Database
    from tests.support.pipelines import Document

ROUNDS = int(os.environ.get("DELTAFORGE_FAILPOINT_ROUNDS", "0"))
SEED = int(os.environ.get("DELTAFORGE_SEED", "7"))
ROWS_PER_S = 400.0
HIT_S = 90.0
TOGETHER = 4
"""Raises of one supervisor in one process; five crashes within a minute are allowed."""
MIDDLE = 9

READER = (
    "reader.prepare",
    "checkpoint.reading",
    "walsender.asked.identify_system",
    "reader.before_start",
    "walsender.asked.start_replication",
    "reader.loop",
    "reader.before_feedback",
    "reader.after_feedback",
)
OPENING = (*READER[:5], "sink.idle", "kafka.before_init", "kafka.after_init")
STAGES = ("assembler.loop", "batcher.loop", "checkpointer.loop")
SETTLING = (
    "kafka.before_checkpoint",
    "kafka.after_checkpoint",
    "kafka.before_commit",
    "kafka.commit",
    "kafka.after_commit",
    "kafka.after_receipt",
)
SINK = ("sink.loop", "kafka.before_produce", "kafka.after_produce", *SETTLING)
STEADY = (*READER[5:], *STAGES, *SINK)
REBUILD = ("kafka.before_rebuild", "kafka.during_rebuild", "kafka.after_rebuild")
ELSEWHERE = {
    "test_refusals": r"startup\..*",
    "test_actors": r"(monitor|admin)\.loop",
    "outside of the protocol": r"cli\..*",
    "the small sinks, which have no protocol": r"sink\.(loop|written)",
}

Point = tuple[str, int]


class Bench:
    """One pipeline with its tables and topic, and a process for every set of failpoints."""

    def __init__(self, kafka: KafkaCluster, database: Database, directory: Path, prefix: str) -> None:
        self.kafka, self.database, self._directory, self._name = kafka, database, directory, f"points-{prefix}"
        self.topic = create_topic(kafka.bootstrap(), f"{prefix}.events", 3)
        self.document: Document = local(self._name, self.topic)
        self._made: list[Deltaforge] = []
        make_tables(database.dsn())

    def start(self, *points: tuple[str, str, int]) -> Deltaforge:
        """Start a process in which these failpoints (name, action, pass) are armed."""
        file = write(self._directory / "pipeline.yaml", self.document)
        armed = ",".join(f"{name}={action}@{at}" for name, action, at in points)
        servers = {"POSTGRES_DSN": self.database.dsn(), "KAFKA_BROKERS": self.kafka.bootstrap()}
        product = Deltaforge(file, {**servers, "DELTAFORGE_FAILPOINTS": armed}, name="failpoints")
        self._made.append(product)
        product.start()
        return product

    def kill_at(self, name: str, at: int, *more: tuple[str, str, int]) -> None:
        """A process that dies at this pass of this failpoint."""
        product = self.start((name, "kill", at), *more)
        code = product.wait(HIT_S)
        assert code == -signal.SIGKILL, f"{name}@{at}: exit {code}\n{product.tail()}"

    def raise_at(self, points: Sequence[Point], *more: tuple[str, str, int]) -> None:
        """A process in which each of these failpoints raises once, and which goes on; ended in good order."""
        product = self.start(*((name, "raise", at) for name, at in points), *more)
        deadline = time.monotonic() + HIT_S
        while missing := [name for name, _ in points if f"failpoint {name}" not in product.text()]:
            assert product.running, product.tail()
            assert time.monotonic() < deadline, f"not hit: {missing}\n{product.tail()}"
            time.sleep(0.05)
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

    def close(self) -> None:
        """End what runs."""
        for product in self._made:
            product.close()


@pytest.fixture
def bench(kafka: KafkaCluster, database: Database, tmp_path: Path, topic_prefix: str) -> Iterator[Bench]:
    """The example's pipeline on fresh tables; its slot exists."""
    faulthandler.cancel_dump_traceback_later()
    bench = Bench(kafka, database, tmp_path, topic_prefix)
    yield bench
    bench.close()


def _born(bench: Bench) -> None:
    """The first start, before there is any load: the slot has to stand before the first row."""
    product = bench.start()
    product.wait_ready()
    assert product.term() == 0, product.tail()


def _load(bench: Bench, max_rows: int = 60) -> Workload:
    plan = Plan(max_rows=max_rows)
    return Workload(bench.database.dsn(), seed=SEED, writers=2, rows_per_s=ROWS_PER_S, plan=plan)


def _points(names: Sequence[str], first: int) -> list[Point]:
    """Each place at this pass, and in further rounds at later ones."""
    return [(name, first + MIDDLE * turn) for turn in range(ROUNDS + 1) for name in names]


def _final(bench: Bench, expected: Expected, *, marked: bool = True) -> Verdict:
    marks = markers(bench.kafka, bench.topic) if marked else ()
    return judge(read(bench.kafka.bootstrap(), bench.topic), expected, marks)


@pytest.mark.fault("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P10", "P11", "P12", "P13", "P14")
@pytest.mark.slow
def test_a_kill_at_any_place_loses_and_doubles_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards every order of steps that only holds as long as nobody dies between two of them."""
    began = time.monotonic()
    _born(bench)
    kills = [*_points(OPENING, 1), ("checkpoint.reading", 2), *_points(SINK, 1), *_points(STEADY, MIDDLE)]
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, _load(bench) as load:
        for name, at in kills:
            bench.kill_at(name, at)
        expected = bench.finish(load, reader)
        live = judge(reader.records, expected)
    final = _final(bench, expected)
    with capsys.disabled():
        print(f"\n{len(kills)} kills, {time.monotonic() - began:.0f} s; {final}")
    assert live.clean, str(live)
    assert final.clean, str(final)


@pytest.mark.fault("P26")
@pytest.mark.slow
def test_an_error_at_any_place_loses_and_doubles_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards state that outlives the actor it belonged to, and producers that nobody throws away."""
    began = time.monotonic()
    _born(bench)
    # The flow's supervisor and the sinks' count their crashes apart.
    flow = [*_points(READER, 1), *_points(STAGES, MIDDLE), *_points(READER[5:], MIDDLE)]
    sink = [*_points(OPENING[5:], 1), *_points(SINK, 1), *_points(SINK, MIDDLE)]
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, _load(bench) as load:
        for some, others in zip_longest(_chunks(flow), _chunks(sink), fillvalue=()):
            bench.raise_at([*some, *others])
        expected = bench.finish(load, reader)
        live = judge(reader.records, expected)
    final = _final(bench, expected)
    with capsys.disabled():
        print(f"\n{len(flow) + len(sink)} errors, {time.monotonic() - began:.0f} s; {final}")
    assert live.clean, str(live)
    assert final.clean, str(final)


def _chunks(points: Sequence[Point]) -> list[Sequence[Point]]:
    return [points[at : at + TOGETHER] for at in range(0, len(points), TOGETHER)]


@pytest.mark.fault("P20")
@pytest.mark.slow
def test_the_change_of_producers_after_a_slow_commit_is_as_safe_as_any(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the rebuild, the only place that replaces a producer without a new epoch."""
    _born(bench)
    slow = ("kafka.commit", "slow", 3)
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, _load(bench) as load:
        for name in REBUILD:
            bench.kill_at(name, 1, slow)
        bench.raise_at([(REBUILD[-1], 1)], slow)
        expected = bench.finish(load, reader)
    final = _final(bench, expected)
    with capsys.disabled():
        print(f"\nrebuild: {final}")
    assert final.clean, str(final)


@pytest.mark.fault("P18")
@pytest.mark.slow
@pytest.mark.parametrize("rule", [{"max_tx_events": 20}, {"respect_source_tx": False}], ids=str)
def test_a_kill_inside_a_split_transaction_loses_and_doubles_nothing(
    rule: dict[str, object], bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards the one case in which a position stands inside of a transaction."""
    _born(bench)
    bench.document["spec"]["batch"] = {"max_events": 7, **rule}
    points = _points(("kafka.after_produce", "reader.loop", *SETTLING[1::2]), 14)
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, _load(bench, 400) as load:
        for name, at in points:
            bench.kill_at(name, at)
        expected = bench.finish(load, reader)
        live = judge(reader.records, expected)
    whole, torn = _final(bench, expected, marked=False), _final(bench, expected)
    with capsys.disabled():
        print(f"\n{rule}, {len(points)} kills: {whole}; {torn.troubles['torn']} parts of their own")
    assert live.clean, str(live)
    assert whole.clean, str(whole)
    assert torn.troubles["torn"] > 0, "nothing was split"


@pytest.mark.fault("P5", "P6", "P7", "P8", "P10", "P12")
@pytest.mark.slow
def test_at_least_once_loses_nothing_at_any_kill(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `exactly_once: false`: rows may come again, none may be missing and none may be made up."""
    _born(bench)
    kafka_config(bench.document)["exactly_once"] = False
    points = _points(("kafka.after_produce", "reader.after_feedback", *SETTLING), MIDDLE)
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, _load(bench) as load:
        for name, at in points:
            bench.kill_at(name, at)
        expected = bench.finish(load, reader)
    final = _final(bench, expected, marked=False)
    with capsys.disabled():
        print(f"\nat least once, {len(points)} kills: {final.events} events, {dict(final.troubles)}")
    assert not any(final.troubles[kind] for kind in ("lost", "unexpected", "torn", "unreadable")), str(final)


def test_every_failpoint_of_the_code_is_hit_by_some_test() -> None:
    """Guards against a new step of the protocol at which nobody ever dies."""
    source = "\n".join(file.read_text() for file in Path(deltaforge.__file__).parent.rglob("*.py"))
    named = set(re.findall(r'failpoint(?:_async)?\("([a-z._]+)"\)', source))
    assert named >= {*SINK, *STAGES, *REBUILD}, "a failpoint was renamed"
    here = {*OPENING, *STEADY, *REBUILD}
    left = {name for name in named - here if not any(re.fullmatch(rule, name) for rule in ELSEWHERE.values())}
    assert not left
