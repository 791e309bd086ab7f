"""One large source transaction: one Kafka transaction, all rows once and in order, little memory. Crowds: as well.

`tests/fault/sizes.py` says how many rows it has.
"""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import time
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from tests.fault.sizes import FULL, LARGE_ROWS
from tests.support.kafka_log import LogBatch, dump_topic
from tests.support.kafka_topics import create_topic, end_offsets
from tests.support.pipelines import local, write
from tests.support.process import Deltaforge
from tests.support.topics import consumer, partitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database

SMALL_ROWS = LARGE_ROWS // 5
FRAME_ROWS = 600
"""A transaction of this many rows before and after the large one reaches every partition."""
PARTITIONS = 12
MOST_BYTES = 250 * 2**20
SAME_MEMORY = 1.15
STALLED_S = 120.0
SAVEPOINTS, SMALL_ONES = 100_000, 1_000_000
PAUSE_S = 3.0

_TABLE = """create table orders(id bigint primary key, customer_id bigint not null, status text not null,
  total numeric(12,2) not null, note text, created_at timestamptz not null, updated_at timestamptz)"""
_ROWS = """insert into orders select n, n * 7, case when n %% 2 = 0 then 'new' else 'paid' end, n * 1.25,
  'order number ' || n, now() - n * interval '1 second', null from generate_series(%s::bigint, %s) n"""
_CROWDS = """
create or replace function with_savepoints(first bigint, last bigint) returns void language plpgsql as $$
begin
  for n in first..last loop
    begin
      insert into orders values (-n, 0, 'undone', 0, null, now());
      raise exception 'undone';
    exception when raise_exception then null;
    end;
    begin
      insert into orders values (n, n * 7, 'new', n * 1.25, 'order number ' || n, now());
    exception when raise_exception then null;
    end;
  end loop;
end $$;
create or replace procedure one_by_one(first bigint, last bigint) language plpgsql as $$
begin
  perform set_config('synchronous_commit', 'off', false);
  for n in first..last loop
    insert into orders values (n, n * 7, 'new', n * 1.25, 'order number ' || n, now());
    commit;
  end loop;
end $$"""
_ID = re.compile(rb'"id":(\d+)')


@dataclass
class Run:
    """What one large transaction cost."""

    rows: int
    seconds: float
    peak: int
    """VmHWM of the process, bytes."""
    epochs: int = 0
    """Streams it took."""

    def __str__(self) -> str:
        speed = f"{self.seconds:6.1f} s, {self.rows / self.seconds:7.0f} rows/s"
        return f"{self.rows:>8} rows in one transaction: {speed}, peak RSS {self.peak / 2**20:.0f} MiB"


@pytest.fixture
def large_run(database: Database, topic_prefix: str, tmp_path: Path) -> Iterator[Callable[..., tuple[Run, str]]]:
    """Runs one transaction of so many rows, between two small ones, through a process of its own.

    Takes changes to the batch section, what to do with the topic while the large one passes, and what writes it.
    """
    products: list[Deltaforge] = []

    def run(
        kafka: KafkaCluster,
        rows: int,
        during: Callable[[str], None] = lambda _: None,
        statement: str = _ROWS,
        **batch: int,
    ) -> tuple[Run, str]:
        database.execute("drop publication if exists orders_pub; drop table if exists orders")
        database.execute(_TABLE)
        database.execute("create publication orders_pub for table orders")
        database.execute(_CROWDS)
        topic = create_topic(kafka.bootstrap(), f"{topic_prefix}.large{rows}", PARTITIONS)
        document = local(f"large-{topic_prefix}-{rows}", topic)
        document["spec"]["source"]["config"]["tables"] = ["public.orders"]
        document["spec"]["batch"] |= batch
        file = write(tmp_path / f"{rows}.yaml", document)
        servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": kafka.bootstrap()}
        products.append(Deltaforge(file, servers, name=f"large-{rows}"))
        product = products[-1]
        product.start()
        product.wait_ready()
        database.execute(_ROWS, (1, FRAME_ROWS))
        _arrived(product, kafka, topic, FRAME_ROWS + PARTITIONS)
        database.execute(statement, (FRAME_ROWS + 1, FRAME_ROWS + rows))
        began = time.monotonic()
        during(topic)
        _arrived(product, kafka, topic, rows)
        done = Run(rows, time.monotonic() - began, 0)
        database.execute(_ROWS, (FRAME_ROWS + rows + 1, FRAME_ROWS + rows + FRAME_ROWS))
        _arrived(product, kafka, topic, rows + 2 * FRAME_ROWS + 3 * PARTITIONS)
        done.peak, done.epochs = product.peak_rss(), product.pipeline(document["metadata"]["name"])["epoch"]
        assert product.term() == 0, product.tail()
        return done, topic

    yield run
    for product in products:
        product.close()


@pytest.mark.fault("G12")
@pytest.mark.slow
def test_a_large_transaction_is_one_kafka_transaction_in_constant_memory(
    large_run: Callable[..., tuple[Run, str]],
    kafka: KafkaCluster,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards against a stage that collects a transaction, a split that nobody asked for, and rows lost in between."""
    faulthandler.cancel_dump_traceback_later()
    # WHEN a small and a large transaction pass, each through a process of its own
    small, _ = large_run(kafka, SMALL_ROWS)
    large, topic = large_run(kafka, LARGE_ROWS)
    record_property("rows", large.rows)
    record_property("rows_per_s", round(large.rows / large.seconds))
    record_property("peak_bytes", {run.rows: run.peak for run in (small, large)})
    with capsys.disabled():
        print(f"\n{small}\n{large}")
    # THEN every row is there once, in the order of the statement
    _assert_complete(kafka.bootstrap(), topic, LARGE_ROWS + 2 * FRAME_ROWS)
    # AND in every partition the large one lies between two markers, written by one producer in one epoch
    for batches in dump_topic(kafka, topic, PARTITIONS):
        _assert_one_transaction(batches)
    assert large.epochs == 1
    # AND memory is bounded, and does not depend on the size of the transaction
    assert large.peak < MOST_BYTES
    assert large.peak < small.peak * SAME_MEMORY


@pytest.mark.fault("G12", "K4")
@pytest.mark.slow
def test_a_large_transaction_never_waits_for_room_that_was_delivered_long_ago(
    large_run: Callable[..., tuple[Run, str]], make_kafka: Callable[..., KafkaCluster]
) -> None:
    """Guards against a sink that waits for the next batch while the reader waits for the bytes of the last ones."""
    faulthandler.cancel_dump_traceback_later()
    kafka = make_kafka(1)
    kafka.start()

    def pause(topic: str) -> None:
        while sum(end_offsets(kafka.bootstrap(), topic, "read_uncommitted").values()) < 2 * FRAME_ROWS:
            time.sleep(0.05)
        os.kill(kafka.node(1).pid, signal.SIGSTOP)
        time.sleep(PAUSE_S)
        os.kill(kafka.node(1).pid, signal.SIGCONT)

    # WHEN nothing but the byte budget bounds what the Kafka client holds, and the broker pauses until it is used up
    run, _ = large_run(kafka, SMALL_ROWS, pause, max_inflight=1000)
    # THEN the transaction passes in the first stream
    assert run.epochs == 1


if FULL:

    @pytest.mark.fault("G12")
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("rows", "statement", "whole"),
        [(SAVEPOINTS // 2, "select with_savepoints(%s, %s)", True), (SMALL_ONES, "call one_by_one(%s, %s)", False)],
        ids=["savepoints", "transactions"],
    )
    def test_a_crowd_passes_in_constant_memory(
        rows: int,
        statement: str,
        whole: bool,
        large_run: Callable[..., tuple[Run, str]],
        kafka: KafkaCluster,
        record_property: Callable[[str, object], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Guards against something that is kept for each savepoint, or for each transaction."""
        faulthandler.cancel_dump_traceback_later()
        run, topic = large_run(kafka, rows, statement=statement)
        record_property("peak_bytes", run.peak)
        with capsys.disabled():
            print(f"\n{statement}: {rows} rows, peak RSS {run.peak / 2**20:.0f} MiB")
        _assert_complete(kafka.bootstrap(), topic, rows + 2 * FRAME_ROWS)
        for batches in dump_topic(kafka, topic, PARTITIONS) if whole else ():
            _assert_one_transaction(batches)
        assert run.epochs == 1
        assert run.peak < MOST_BYTES


def _arrived(product: Deltaforge, kafka: KafkaCluster, topic: str, offsets: int) -> None:
    """Wait until a read_committed consumer can come so far; give up when nothing at all moves any more."""
    last, since = -1, time.monotonic()
    while (now := sum(end_offsets(kafka.bootstrap(), topic).values())) < offsets:
        written = sum(end_offsets(kafka.bootstrap(), topic, "read_uncommitted").values())
        if written != last:
            last, since = written, time.monotonic()
        assert product.running, product.tail()
        assert time.monotonic() - since < STALLED_S, f"{now} of {offsets} offsets, {written} written\n{product.tail()}"
        time.sleep(0.2)


def _assert_complete(bootstrap: str, topic: str, rows: int) -> None:
    reader = consumer(bootstrap)
    seen, latest, ends = bytearray(rows + 1), [0] * PARTITIONS, 0
    moved = time.monotonic()
    reader.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions(reader, topic)])
    try:
        while ends < PARTITIONS:
            # A full second without a full hand gives what there is; the tail is never a full hand.
            messages = reader.consume(10_000, timeout=1.0)
            moved = time.monotonic() if messages else moved
            assert time.monotonic() - moved < STALLED_S, "the broker sends nothing"
            for message in messages:
                if message.error() is not None:
                    ends += 1
                    continue
                key, number = message.key(), message.partition()
                assert key is not None
                assert number is not None
                found = _ID.search(key)
                assert found is not None, key
                row = int(found[1])
                assert row > latest[number], f"partition {number}: row {row} after {latest[number]}"
                latest[number] = row
                seen[row] += 1
    finally:
        reader.close()
    assert seen[1:].count(1) == rows, f"{seen.count(0) - 1} rows missing"


def _assert_one_transaction(batches: list[LogBatch]) -> None:
    """Three transactions, the large one in the middle."""
    sections = [list(group) for control, group in groupby(batches, lambda batch: batch.control)]
    assert [section[0].control for section in sections] == [False, True] * 3
    for section in sections:
        assert len({(batch.producer_id, batch.producer_epoch) for batch in section}) == 1
        assert all(batch.transactional for batch in section)
    assert all(len(section) == 1 for section in sections[1::2]), "a marker without records before it"
    assert sum(batch.count for batch in sections[2]) > max(sum(batch.count for batch in sections[n]) for n in (0, 4))
