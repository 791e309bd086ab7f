"""PostgreSQL's disk is full: writers fail, the server may crash and come back, and what was committed arrives once."""

from __future__ import annotations

import faulthandler
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.fault.sizes import SEED
from tests.ledger.judge import judge
from tests.ledger.workload import Workload, make_tables
from tests.ledger.writer import Plan
from tests.support.databases import create_database
from tests.support.instances import Site, alive
from tests.support.orders import wait_until
from tests.support.outage import busiest_second
from tests.support.small_disks import SmallDisk
from tests.support.topics import LiveReader, markers, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.fault("G18")]

MIB = 2**20
SIZE = 160 * MIB
SMALL = {"min_wal_size": "32MB", "max_wal_size": "48MB", "shared_buffers": "16MB"}
FULL = "No space left on device"
TIMES = 5
"""How often the server has to say so."""
ROWS = 300
LINES_A_SECOND = 40


def test_a_server_whose_disk_was_full_is_gone_on_from(
    kafka: KafkaCluster, make_postgres: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    """Guards against a transaction that was told to have failed and is delivered, or the other way round."""
    faulthandler.cancel_dump_traceback_later()
    with ExitStack() as stack:
        server = make_postgres(18, options=SMALL)
        server.data.mkdir()
        disk = stack.enter_context(SmallDisk(SIZE, server.data))
        shutil.chown(disk.path, server.user)
        stack.callback(server.close)
        server.start()
        database = create_database(server)
        make_tables(database.dsn())
        site = stack.enter_context(Site(kafka, database, tmp_path, f"d{database.name[-8:]}"))
        pipeline = site.pipeline("full")
        product = site.process(pipeline.file, name="full")
        product.start()
        product.wait_ready()
        reader = stack.enter_context(LiveReader(site.bootstrap, pipeline.topic))

        def complaints() -> int:
            return server.log.read_text(errors="replace").count(FULL)

        # GIVEN writers at work
        with Workload(database.dsn(), seed=SEED, writers=2, plan=Plan(max_rows=400)) as load:
            reader.wait_for(ROWS)
            # WHEN there is no space left, neither for tables nor for WAL
            disk.fill()
            wait_until(
                lambda: complaints() > TIMES or not server.running, f"the server says {FULL}", lambda: alive(product)
            )
            crashed = not server.running
            # AND there is again
            disk.empty()
            if crashed:
                server.start()
            # THEN rows go on
            before = reader.count
            reader.wait_for(before + ROWS)
        expected = load.expected()
        reader.wait_for(expected.events + expected.tombstones)
        assert product.term() == 0, product.tail()
        assert complaints() > 0
        # AND everything that was committed is there once, and nothing else
        verdict = judge(read(site.bootstrap, pipeline.topic), expected, markers(kafka, pipeline.topic))
        assert verdict.clean, str(verdict)
        assert busiest_second(product.text()) <= LINES_A_SECOND
