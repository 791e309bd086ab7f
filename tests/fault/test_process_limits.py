"""The process runs out of what the system gives it: file descriptors, threads, memory."""

from __future__ import annotations

import errno
import faulthandler
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deltaforge.process import UNENDING_S
from tests.fault.sizes import half
from tests.ledger.workload import make_tables
from tests.support.databases import create_database, drop_database
from tests.support.faulty_libc import FaultyLibc
from tests.support.instances import Site, alive
from tests.support.orders import WAIT_S, insert_orders, seen_orders, wait_for_orders, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.kafka import KafkaCluster
    from deltaforge.embedded.postgres import PostgresServer
    from tests.support.instances import Pipeline
    from tests.support.process import Deltaforge

pytestmark = [pytest.mark.slow, pytest.mark.fault("P25")]

RESTARTS = "deltaforge_actor_restarts_total"
CRASHED = '"child crashed"'
NO_THREAD = ("Failed to create thread", "can't start new thread")
FAILED = 1
FEW = 3
"""Descriptors allowed: fewer than are open, so that not one more can be had."""
SPARE = half([0, 4 * 2**20])
"""Bytes that it may have beyond what it has: Python is the first to feel it, or librdkafka."""
BIG, NOTE = 9_000, 6_000
LARGE = """insert into orders (id, customer_id, total, note, created_at)
  select id, 1, 1, repeat('x', %s), now() from generate_series(1001, 1000 + %s) id"""
CUT = """select pg_terminate_backend(pid) from pg_stat_activity
  where datname = current_database() and application_name like 'deltaforge%'"""


@pytest.fixture
def site(kafka: KafkaCluster, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One database with the tables."""
    faulthandler.cancel_dump_traceback_later()
    database = create_database(postgres)
    make_tables(database.dsn())
    with Site(kafka, database, tmp_path_factory.mktemp("limits"), f"l{database.name[-8:]}") as made:
        yield made
    drop_database(database)


def _at_work(site: Site, name: str, **extra: str) -> tuple[Pipeline, Deltaforge]:
    """A pipeline that has delivered one order."""
    pipeline = site.pipeline(name)
    product = site.process(pipeline.file, name=name, extra=extra)
    product.start()
    product.wait_ready()
    insert_orders(site.database, [1])
    wait_for_orders(site.bootstrap, pipeline.topic, [1], lambda: alive(product))
    return pipeline, product


def _goes_on(site: Site, pipeline: Pipeline, product: Deltaforge, *more: int) -> None:
    """It delivers the second order by itself, and all orders are there once."""
    wait_for_orders(site.bootstrap, pipeline.topic, [1, 2], lambda: alive(product))
    product.wait_ready()
    assert product.term() == 0, product.tail()
    assert seen_orders(site.bootstrap, pipeline.topic) == [1, 2, *more]


def test_a_process_out_of_descriptors_says_so_and_goes_on_once_it_may_have_more(site: Site) -> None:
    """Guards against blaming the server, and against an actor that crashes its pipeline over a limit."""
    pipeline, product = _at_work(site, "descriptors")
    before = resource.prlimit(product.pid, resource.RLIMIT_NOFILE)
    # WHEN its sessions end, and not one descriptor more can be had
    resource.prlimit(product.pid, resource.RLIMIT_NOFILE, (FEW, before[1]))
    site.database.execute(CUT)
    insert_orders(site.database, [2])
    # THEN it says what is missing
    wait_until(
        lambda: f"/{site.database.name}: {os.strerror(errno.EMFILE)}" in product.text(), "told", lambda: alive(product)
    )
    assert "raise the limit of open files" in product.text()
    # AND WHEN it may have more THEN it goes on, and nothing was a crash
    resource.prlimit(product.pid, resource.RLIMIT_NOFILE, before)
    wait_for_orders(site.bootstrap, pipeline.topic, [1, 2], lambda: alive(product))
    product.wait_ready()
    assert product.metric(RESTARTS) == 0
    _goes_on(site, pipeline, product)


def test_a_process_that_gets_no_more_threads_loses_nothing(site: Site) -> None:
    """Guards against a Kafka client made of some of its threads, which would wait for the others for ever."""
    with FaultyLibc() as libc:
        pipeline, product = _at_work(site, "threads", **libc.environment)
        # WHEN a new stream begins, whose client needs threads that cannot be had
        libc.fail_threads(errno.EAGAIN)
        site.database.execute(CUT)
        insert_orders(site.database, [2])
        wait_until(
            lambda: not product.running or any(words in product.text() for words in NO_THREAD),
            "it says what it lacks",
            lambda: None,
        )
        # THEN nothing is delivered, and all of it once they can
        assert seen_orders(site.bootstrap, pipeline.topic) == [1]
        libc.fail_threads(0)
        _again_if_it_ended(product)
        _goes_on(site, pipeline, product)


@pytest.mark.parametrize("spare", SPARE)
def test_a_process_that_gets_no_more_memory_loses_nothing(site: Site, spare: int) -> None:
    """Guards what is half done at the moment in which any step may fail."""
    pipeline, product = _at_work(site, "memory")
    # WHEN it may have no more than it has, or little more, and a transaction larger than its byte budget comes
    before = resource.prlimit(product.pid, resource.RLIMIT_DATA)
    resource.prlimit(product.pid, resource.RLIMIT_DATA, (_data(product) + spare, before[1]))
    site.database.execute(LARGE, [NOTE, BIG])
    wait_until(lambda: not product.running or CRASHED in product.text(), "the limit is felt", lambda: None)
    # THEN nothing of it is seen, and it goes on by itself, or is started again, and all of it is seen once
    assert seen_orders(site.bootstrap, pipeline.topic) == [1]
    if not _again_if_it_ended(product):
        resource.prlimit(product.pid, resource.RLIMIT_DATA, before)
    insert_orders(site.database, [2])
    # It may have lost a thread that an actor waits for, and end for that a minute after it cancelled the actor.
    wait_until(
        lambda: _again_if_it_ended(product) or 2 in seen_orders(site.bootstrap, pipeline.topic),
        "it goes on or ends",
        lambda: None,
        UNENDING_S + WAIT_S,
    )
    _goes_on(site, pipeline, product, *range(1001, 1001 + BIG))


def _data(product: Deltaforge) -> int:
    """Bytes of its own memory, as RLIMIT_DATA counts them."""
    status = Path(f"/proc/{product.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmData:")).split()[1]) * 1024


def _again_if_it_ended(product: Deltaforge) -> bool:
    """Start it again if it has ended, which may be by an actor that fails too often, or librdkafka, which aborts."""
    if product.running:
        return False
    assert product.wait() in (FAILED, -signal.SIGABRT), product.tail()
    product.start()
    return True
