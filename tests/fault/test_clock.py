"""The wall clock of the process is set ahead and back under way: nothing waits by it, and only its own time shows it.

The clock of the machine belongs to everybody, so a C library of the test's own tells the process another time, and
waits by it as the kernel would: whoever waits for a time of the wall clock waits on when it is set back.
"""

from __future__ import annotations

import faulthandler
import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import FULL, SEED
from tests.ledger.judge import judge
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import Plan
from tests.support.databases import create_database, drop_database
from tests.support.faulty_libc import FaultyLibc
from tests.support.instances import Site, alive
from tests.support.orders import wait_until
from tests.support.topics import LiveReader, markers, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.topics import Record

pytestmark = [pytest.mark.slow, pytest.mark.fault("C3")]

HOUR_S = 3500
"""The broker takes records up to an hour ahead of its own clock."""
DECADE_S = 10 * 365 * 24 * 3600
BACK_AND_FORTH = 40 if FULL else 4
FAILED = 1
ROWS_PER_S = 400.0
RESTARTS = "deltaforge_actor_restarts_total"


@pytest.fixture
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One database with the tables."""
    faulthandler.cancel_dump_traceback_later()
    database = create_database(postgres)
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path_factory.mktemp("clock"), f"w{database.name[-8:]}") as made:
        yield made
    drop_database(database)


def _off_s(record: Record) -> float:
    """How far the time at which deltaforge wrote a record lies from the time of its commit, seconds."""
    value = json.loads(record.value or b"null")
    return (value["ts_ms"] - value["source"]["ts_ms"]) / 1000 if value else float("inf")


def test_a_wall_clock_that_jumps_holds_up_nothing_and_loses_nothing(site: Site) -> None:
    """Guards deadlines and pauses that take the wall clock for a watch, and librdkafka, which does."""
    pipeline = site.pipeline("clock")
    with FaultyLibc() as libc, LiveReader(site.bootstrap, pipeline.topic) as reader:
        product = site.process(pipeline.file, name="clock", extra=libc.environment)
        product.start()
        product.wait_ready()
        ended: list[int] = []

        def shown(shift: int) -> None:
            """Rows go on, and the clock shows in them."""
            seen = reader.count

            def come() -> bool:
                return any(abs(_off_s(record) - shift) < HOUR_S / 2 for record in reader.records[seen:])

            wait_until(lambda: come() or not product.running, f"rows written {shift} s from now", lambda: None)
            if not product.running:
                # The clock was set back within a wait of librdkafka.
                assert product.wait() == FAILED, product.tail()
                assert "librdkafka did not return from a call" in product.tail()
                ended.append(product.pid)
                product.start()
                wait_until(come, f"rows written {shift} s from now", lambda: alive(product))

        with Workload(site.database.dsn(), seed=SEED, writers=2, rows_per_s=ROWS_PER_S, plan=Plan(max_rows=60)) as load:
            shown(0)
            # WHEN the clock is set ahead and back THEN rows go on
            for shift in (HOUR_S, -HOUR_S) * BACK_AND_FORTH:
                libc.shift_clock(shift)
                shown(shift)
            # AND WHEN it is set so far ahead that the broker takes nothing THEN that is said
            libc.shift_clock(DECADE_S)
            # In the log: the status shows it for a part of each try only. One name is the broker's for one such record.
            refused = re.compile(r'"state": "blocked".*\(INVALID_(TIMESTAMP|RECORD)\).*message\.timestamp\.type')
            wait_until(
                lambda: refused.search(product.text()) is not None,
                "the refused time is told of, and what to do",
                lambda: alive(product),
            )
            # AND WHEN it is right again THEN rows go on
            libc.shift_clock(0)
            shown(0)
        expected = load.expected()
        began = time.monotonic()
        reader.wait_for(expected.events + expected.tombstones)
        print(f"{BACK_AND_FORTH} times back and forth, ended {len(ended)} times, the rest came within")
        print(f"{time.monotonic() - began:.1f} s")
        assert "(_STATE)" not in product.text(), "a reason that is none"
        assert product.metric(RESTARTS) == 0
        assert product.term() == 0, product.tail()
    verdict = judge(read(site.bootstrap, pipeline.topic), expected, markers(site.kafka, pipeline.topic))
    assert verdict.clean, str(verdict)
