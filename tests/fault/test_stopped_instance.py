"""A process is stopped for a while, another one takes over, and the first one wakes up with everything still open."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import SEED
from tests.ledger.judge import judge
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import Plan
from tests.support.instances import states
from tests.support.kafka_topics import create_topic
from tests.support.pipelines import kafka_config, local, write
from tests.support.process import Deltaforge
from tests.support.topics import LiveReader, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database

WAIT_S = 90.0


@pytest.mark.fault("P24")
@pytest.mark.slow
@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_process_that_wakes_up_after_another_took_over_stands_by_and_harms_nobody(
    exactly_once: bool,
    kafka: KafkaCluster,
    database: Database,
    topic_prefix: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Guards the rightful instance against rows, a checkpoint or a fencing by the one that was believed dead."""
    faulthandler.cancel_dump_traceback_later()
    name = f"stopped-{topic_prefix}"
    topic = create_topic(kafka.bootstrap(), f"{topic_prefix}.events", 3)
    make_tables(database.dsn())
    document = local(name, topic)
    kafka_config(document)["exactly_once"] = exactly_once
    file = write(tmp_path / "pipeline.yaml", document)
    servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": kafka.bootstrap()}
    first, second = (Deltaforge(file, servers, name=f"stopped-{number}") for number in (1, 2))
    load = Workload(database.dsn(), seed=SEED, writers=2, rows_per_s=500.0, plan=Plan(max_rows=60))
    with first, LiveReader(kafka.bootstrap(), topic) as reader:
        first.wait_ready()
        with load:
            reader.wait_for(200)
            # WHEN the first one stands still in the middle of its work, and the server gives its slot away
            os.kill(first.pid, signal.SIGSTOP)
            database.execute("select pg_terminate_backend(pid) from pg_stat_replication")
            with second:
                seen = reader.count
                reader.wait_for(seen + 500)
                os.kill(first.pid, signal.SIGCONT)
                # THEN it stands by
                deadline = time.monotonic() + WAIT_S
                while states(first).get(name) != "standby":
                    assert first.running, first.tail()
                    assert time.monotonic() < deadline, first.tail()
                    time.sleep(0.1)
                reader.wait_for(reader.count + 500)
                load.stop()
                expected = load.expected()
                with contextlib.suppress(TimeoutError):
                    reader.wait_for(expected.events + expected.tombstones)
                while judge(reader.records, expected).troubles["lost"] and time.monotonic() < deadline:
                    time.sleep(0.5)
                # AND the second one is undisturbed
                assert "rewinding" not in second.text(), second.tail()
                assert second.term() == 0, second.tail()
    verdict = judge(read(kafka.bootstrap(), topic), expected)
    kept = verdict.totals if exactly_once else {kind: verdict.totals[kind] for kind in ("lost", "torn")}
    record_property("verdict", kept)
    if exactly_once:
        assert verdict.clean, str(verdict)
    assert not any(verdict.troubles[kind] for kind in ("lost", "unexpected", "torn", "unreadable")), str(verdict)
