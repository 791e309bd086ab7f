"""The process, or the broker, stands still for less and for more than the patience of whoever waits for it."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from deltaforge.embedded.kafka import KafkaCluster
from tests.fault.bench import Bench
from tests.fault.sizes import FULL, SEED
from tests.support.topics import LiveReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.databases import Database

PROCESS_S = (5, 60, 180) if FULL else (5,)
"""The server's patience is 60 s, Kafka's with an open transaction as well."""
BROKER_S = (10, 60, 120)
AWAKE_S = 120.0
"""Longest wait for the next event once everybody is awake again."""


@pytest.fixture
def own_kafka() -> Iterator[KafkaCluster]:
    """A broker that nobody else is using."""
    with KafkaCluster() as cluster:
        yield cluster


@pytest.fixture
def tell(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Prints what a test measured, and keeps it for the rig's report."""

    def tell(**figures: object) -> None:
        for name, value in figures.items():
            record_property(name, value)
        with capsys.disabled():
            print(f"\n{figures}, seed {SEED}")

    return tell


def _freeze_under_load(bench: Bench, who: Callable[[int], int], seconds: int, tell: Callable[..., None]) -> None:
    """SIGSTOP for so long while writers go on; then all of it has to be there once.

    Args: who: from our pid to the victim's.
    """
    bench.born()
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader, bench.load() as load:
        product = bench.start()
        product.wait_ready()
        reader.wait_for(200)
        victim = who(product.pid)
        os.kill(victim, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(victim, signal.SIGCONT)
        awake, seen = time.monotonic(), reader.count
        reader.wait_for(seen + 1, stalled_s=AWAKE_S)
        recovered_s = time.monotonic() - awake
        assert product.running, product.tail()
        assert product.term() == 0, product.tail()
        expected = bench.finish(load, reader)
    final = bench.final(expected)
    tell(frozen_s=seconds, recovered_s=round(recovered_s, 1), events=final.events, verdict=final.totals)
    assert final.clean, str(final)


@pytest.mark.fault("P23")
@pytest.mark.slow
@pytest.mark.parametrize("seconds", PROCESS_S)
def test_a_process_that_stood_still_goes_on_where_it_was(
    seconds: int, kafka: KafkaCluster, database: Database, tmp_path: Path, topic_prefix: str, tell: Callable[..., None]
) -> None:
    """Guards against a stale position that is confirmed, or a stale transaction that is committed, on waking up."""
    with Bench(kafka, database, tmp_path, topic_prefix) as bench:
        _freeze_under_load(bench, lambda pid: pid, seconds, tell)


if FULL:

    @pytest.mark.fault("K4")
    @pytest.mark.slow
    @pytest.mark.parametrize("seconds", BROKER_S)
    def test_a_broker_that_stood_still_is_waited_for(
        seconds: int,
        own_kafka: KafkaCluster,
        database: Database,
        tmp_path: Path,
        topic_prefix: str,
        tell: Callable[..., None],
    ) -> None:
        """Guards against a batch that is sent again when nobody knows what became of the first one."""
        broker = own_kafka.nodes[0].pid
        with Bench(own_kafka, database, tmp_path, topic_prefix) as bench:
            _freeze_under_load(bench, lambda _: broker, seconds, tell)
