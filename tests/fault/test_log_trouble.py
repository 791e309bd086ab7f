"""What becomes of the log is no matter for the stream: nobody reads it, its pipe is full, its disk is full."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from tests.ledger.workload import make_tables
from tests.support.instances import Site, alive
from tests.support.orders import insert_orders, seen_orders, wait_for_orders, wait_until
from tests.support.outage import wait_for_epoch
from tests.support.small_disks import SmallDisk

if TYPE_CHECKING:
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database
    from tests.support.instances import Pipeline
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("C5", "C1")]

EPOCHS = 3
CUT = "select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()"


def _full_pipe(stack: ExitStack, at: Path) -> None:
    """A named pipe without room, of which nobody reads anything."""
    os.mkfifo(at)
    fd = os.open(at, os.O_RDWR | os.O_NONBLOCK)
    stack.callback(os.close, fd)
    with suppress(BlockingIOError):
        while True:
            os.write(fd, b"x" * 512)


def _lines(log: Path) -> int:
    """How many whole lines a log has; where the disk was full, one may be cut and go on as another."""
    found = 0
    for line in log.read_text(errors="replace").splitlines():
        with suppress(json.JSONDecodeError):
            found += "event" in json.loads(line)
    return found


def test_a_stream_goes_on_without_a_log(kafka: KafkaCluster, database: Database, tmp_path: Path) -> None:
    """Guards against a pipeline that stands still, dies or grows because nobody takes its lines."""
    make_tables(database.dsn())
    with ExitStack() as stack:
        site = stack.enter_context(Site(kafka, database, tmp_path, f"g{database.name[-8:]}"))
        disk = stack.enter_context(SmallDisk(64 * 1024))
        logs = {"pipe": tmp_path / "log", "disk": disk.path / "log"}
        # GIVEN a pipeline whose log is a pipe that is full, and one whose log lies on a disk that will be
        _full_pipe(stack, logs["pipe"])
        made: dict[str, tuple[Pipeline, Deltaforge]] = {}
        for kind, log in logs.items():
            pipeline = site.pipeline(kind, kind)
            product = site.process(pipeline.file, "--log-level", "debug", name=f"log-{kind}")
            product.write_to(log)
            product.start()
            made[kind] = pipeline, product
        for _, product in made.values():
            product.wait_ready()
        disk.fill()
        # WHEN they have much to say
        for epoch in range(2, 2 + EPOCHS):
            database.execute(CUT)
            for pipeline, product in made.values():
                wait_for_epoch(product, pipeline.name, epoch)
            insert_orders(database, [epoch])
        # THEN rows go on
        orders = list(range(2, 2 + EPOCHS))
        for pipeline, product in made.values():
            wait_for_orders(site.bootstrap, pipeline.topic, orders, lambda at=product: alive(at))  # type: ignore[misc]
            assert seen_orders(site.bootstrap, pipeline.topic) == orders
        # AND WHEN there is room again THEN there are lines again, and both end in good order
        told = _lines(logs["disk"])
        disk.empty()
        database.execute(CUT)
        wait_until(lambda: _lines(logs["disk"]) > told, "lines are written again", lambda: alive(made["disk"][1]))
        for _, product in made.values():
            assert product.term() == 0
