"""The process dies, or a task of it fails, at every named place of the protocol: nothing lost, doubled or torn.

Real servers, a process per kill, several failures per process. `tests/fault/sizes.py` says how often each place is hit.
"""

from __future__ import annotations

import re
import time
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import deltaforge
from tests.fault.bench import Bench, chunks, in_turn
from tests.fault.points import (
    ELSEWHERE,
    MIDDLE,
    OPENING,
    READER,
    REBUILD,
    SETTLING,
    SINK,
    STAGES,
    STEADY,
    early_and_late,
    passes,
    starts,
)
from tests.fault.sizes import FULL, SEED, half
from tests.ledger.judge import judge
from tests.support.pipelines import kafka_config
from tests.support.topics import LiveReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.ledger.verdict import Verdict
    from tests.support.databases import Database

    Tell = Callable[[str, Verdict], None]

ACTIONS = ("raise", "cancel")
MIXED = (ACTIONS, ACTIONS[::-1])
"""Every other place raises, those between are cancelled; and the other way round."""
AGAIN = ("kafka.after_receipt", "raise", 1)
"""The sink fails behind its first commit: a second stream begins."""
SPLIT = ("kafka.after_produce", "reader.loop", *SETTLING[1::2])
HANGS = (*STAGES, *SINK, "reader.loop")
"""Where whoever hangs has not said that it waits for a server."""
AT_LEAST_ONCE = ("kafka.after_produce", "reader.after_feedback", *SETTLING)


@pytest.fixture
def bench(kafka: KafkaCluster, database: Database, tmp_path: Path, topic_prefix: str) -> Iterator[Bench]:
    """The example's pipeline on fresh tables; its slot exists."""
    with Bench(kafka, database, tmp_path, topic_prefix) as bench:
        bench.born()
        yield bench


@pytest.fixture
def tell(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> Tell:
    """Prints what a test did and what came of it, and keeps it for the rig's report."""
    began = time.monotonic()

    def tell(what: str, verdict: Verdict) -> None:
        record_property("did", what)
        record_property("events", verdict.events)
        record_property("verdict", verdict.totals)
        with capsys.disabled():
            print(f"\n{what}, seed {SEED}, {time.monotonic() - began:.0f} s; {verdict}")

    return tell


@pytest.mark.fault("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P10", "P11", "P12", "P13", "P14")
@pytest.mark.slow
def test_a_kill_at_any_place_loses_and_doubles_nothing(bench: Bench, tell: Tell) -> None:
    """Guards every order of steps that only holds as long as nobody dies between two of them."""
    # The checkpoint is read twice in a start: to look, and to go on from.
    opening = starts([name for name in OPENING if FULL or name != "checkpoint.reading"])
    steady = passes([name for name in STEADY if name not in SINK], MIDDLE)
    kills = [*early_and_late(SINK), *steady]
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, bench.load() as load:
        for name, at in [*opening, ("checkpoint.reading", 2)]:
            bench.kill_at(name, at, AGAIN)
        for name, at in kills:
            bench.kill_at(name, at)
        expected = bench.finish(load, reader)
        live = judge(reader.records, expected)
    final = bench.final(expected)
    tell(f"{len(opening) + 1 + len(kills)} kills", final)
    assert live.clean, str(live)
    assert final.clean, str(final)


@pytest.mark.fault("P26")
@pytest.mark.slow
@pytest.mark.parametrize("actions", MIXED if FULL else MIXED[SEED % 2 :][:1], ids="/".join)
def test_a_failure_at_any_place_loses_and_doubles_nothing(actions: tuple[str, ...], bench: Bench, tell: Tell) -> None:
    """Guards state that outlives the actor it belonged to, and producers that nobody throws away."""
    # The flow's supervisor and the sinks' count their crashes apart.
    flow = [*starts(READER[:5]), *passes(STAGES, MIDDLE), *early_and_late(READER[5:])]
    sink = [*starts(OPENING[5:]), *early_and_late(SINK)]
    both = (chunks(in_turn(points, actions)) for points in (flow, sink))
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, bench.load() as load:
        for some, others in zip_longest(*both, fillvalue=()):
            bench.crash_at([*some, *others])
        expected = bench.finish(load, reader)
        live = judge(reader.records, expected)
    final = bench.final(expected)
    tell(f"{len(flow) + len(sink)} failures", final)
    assert live.clean, str(live)
    assert final.clean, str(final)


@pytest.mark.fault("P26")
@pytest.mark.slow
def test_a_hang_at_any_place_is_found_and_loses_and_doubles_nothing(bench: Bench, tell: Tell) -> None:
    """Guards against a stage that beats happily beside a task of its own that will never come back."""
    config = kafka_config(bench.document)
    config["send_timeout_secs"] = 5
    config["client_conf"] |= {"transaction.timeout.ms": 10_000, "delivery.timeout.ms": 10_000}
    hangs = HANGS if FULL else HANGS[SEED % len(HANGS) :][:1]
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, bench.load() as load:
        for name in hangs:
            bench.stall_at(name, MIDDLE)
        expected = bench.finish(load, reader)
        live = judge(reader.records, expected)
    final = bench.final(expected)
    tell(f"{len(hangs)} hangs", final)
    assert live.clean, str(live)
    assert final.clean, str(final)


@pytest.mark.fault("P20")
@pytest.mark.slow
def test_the_change_of_producers_after_a_slow_commit_is_as_safe_as_any(bench: Bench, tell: Tell) -> None:
    """Guards the rebuild, the only place that replaces a producer without a new epoch."""
    slow = ("kafka.commit", "slow", 3)
    kills = REBUILD if FULL else REBUILD[SEED % len(REBUILD) :][:1]
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, bench.load() as load:
        for name in kills:
            bench.kill_at(name, 1, slow)
        bench.crash_at([(REBUILD[-1], "raise", 1)], slow)
        expected = bench.finish(load, reader)
    final = bench.final(expected)
    tell(f"{len(kills)} kills and an error in a rebuild", final)
    assert final.clean, str(final)


@pytest.mark.fault("P18")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "points"),
    [
        ({"max_tx_events": 20}, SPLIT if FULL else SPLIT[::2]),
        ({"respect_source_tx": False}, SPLIT if FULL else SPLIT[1::2]),
    ],
    ids=["max_tx_events", "respect_source_tx"],
)
def test_a_kill_inside_a_split_transaction_loses_and_doubles_nothing(
    rule: dict[str, object], points: tuple[str, ...], bench: Bench, tell: Tell
) -> None:
    """Guards the one case in which a position stands inside of a transaction."""
    bench.document["spec"]["batch"] = {"max_events": 7, **rule}
    kills = passes(points, 14)
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, bench.load(400) as load:
        for name, at in kills:
            bench.kill_at(name, at)
        expected = bench.finish(load, reader)
        live = judge(reader.records, expected)
    whole, torn = bench.final(expected, marked=False), bench.final(expected)
    tell(f"{rule}, {len(kills)} kills, {torn.troubles['torn']} parts of their own", whole)
    assert live.clean, str(live)
    assert whole.clean, str(whole)
    assert torn.troubles["torn"] > 0, "nothing was split"


@pytest.mark.fault("P5", "P6", "P7", "P8", "P10", "P12")
@pytest.mark.slow
def test_at_least_once_loses_nothing_at_any_kill(
    bench: Bench, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards `exactly_once: false`: rows may come again, none may be missing and none may be made up."""
    kafka_config(bench.document)["exactly_once"] = False
    kills = passes(half(AT_LEAST_ONCE), MIDDLE)
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, bench.load() as load:
        for name, at in kills:
            bench.kill_at(name, at)
        expected = bench.finish(load, reader)
    final = bench.final(expected, marked=False)
    record_property("verdict", {kind: final.totals[kind] for kind in ("lost", "torn")})
    record_property("repeated", final.troubles["doubled"])
    with capsys.disabled():
        print(f"\nat least once, {len(kills)} kills: {final.events} events, {dict(final.troubles)}")
    assert not any(final.troubles[kind] for kind in ("lost", "unexpected", "torn", "unreadable")), str(final)


def test_every_failpoint_of_the_code_is_hit_by_some_test() -> None:
    """Guards against a new step of the protocol at which nobody ever dies."""
    source = "\n".join(file.read_text() for file in Path(deltaforge.__file__).parent.rglob("*.py"))
    named = set(re.findall(r'failpoint(?:_async)?\("([a-z._]+)"\)', source))
    assert named >= {*SINK, *STAGES, *REBUILD}, "a failpoint was renamed"
    here = {*OPENING, *STEADY, *REBUILD}
    left = {name for name in named - here if not any(re.fullmatch(rule, name) for rule in ELSEWHERE.values())}
    assert not left
