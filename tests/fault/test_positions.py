"""One source transaction, and a failure at every pass of every place it comes by: from its first event to its last.

A place is passed several times by one transaction; which of them is hit decides how much of it is on its way, produced,
or still in PostgreSQL. When quick, one place is hit at its first pass and in the middle; the seed says where and how.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tests.fault.bench import HIT_S, Bench
from tests.fault.points import FLOW
from tests.fault.sizes import FULL, SEED
from tests.support.topics import LiveReader, Record, markers, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database
    from tests.support.process import Deltaforge
    from tests.support.topics import Marker

ACTIONS = ("kill", "raise", "cancel")
EVERYWHERE = [(point, action) for action in ACTIONS for point in FLOW]
CHOSEN = EVERYWHERE if FULL else EVERYWHERE[SEED % len(EVERYWHERE) :][:1]
PASSES = (1, 4)
"""When quick."""
ROWS = 60
_INSERT = """insert into orders (id, customer_id, total, note, created_at)
  select %s::bigint + n, 1, n, repeat(md5(n::text), 600), now() from generate_series(1, %s) n"""


class Scan:
    """One place of one pipeline, hit at one pass after the other, with a transaction under way each time."""

    def __init__(self, bench: Bench, reader: LiveReader, point: str, action: str) -> None:
        self._bench, self._reader, self._point, self._action = bench, reader, point, action
        self.written = self.hits = 0

    @property
    def delivered(self) -> bool:
        """Whether a committed reader has seen every transaction."""
        return self._reader.count >= self.written * ROWS

    def hit(self, at: int) -> bool:
        """Have the place hit at this pass. Returns False when the transaction was through before."""
        if self.delivered:
            self._bench.database.execute(_INSERT, (self.written * ROWS, ROWS))
            self.written += 1
        product = self._bench.start((self._point, self._action, at))
        self._until(product, lambda: self._was_hit(product) or self.delivered)
        hit = self._was_hit(product)
        self.hits += hit
        if product.running:
            # What a killed process had committed may have been seen before this one could be asked to end.
            self._until(product, lambda: not product.running or (self.delivered and product.ask("/ready")[0] == 200))
        if product.running:
            assert product.term() == 0, product.tail()
        else:
            assert (code := product.wait()) == -signal.SIGKILL, f"exit {code}\n{product.tail()}"
        return hit

    def finish(self) -> None:
        """Let a process without failpoints deliver what is left."""
        product = self._bench.start()
        product.wait_ready()
        self._until(product, lambda: self.delivered)
        assert product.term() == 0, product.tail()

    def _was_hit(self, product: Deltaforge) -> bool:
        return not product.running if self._action == "kill" else f"failpoint {self._point}" in product.text()

    def _until(self, product: Deltaforge, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + HIT_S
        while not reached():
            assert product.running or reached(), product.tail()
            assert time.monotonic() < deadline, product.tail()
            time.sleep(0.02)


@pytest.fixture
def bench(kafka: KafkaCluster, database: Database, tmp_path: Path, topic_prefix: str) -> Iterator[Bench]:
    """The example's pipeline with one partition and small batches; its slot exists."""
    with Bench(kafka, database, tmp_path, topic_prefix, partitions=1) as bench:
        bench.document["spec"]["batch"] = {"max_events": 7}
        bench.born()
        yield bench


@pytest.mark.fault("P2", "P3", "P5", "P26")
@pytest.mark.slow
@pytest.mark.parametrize(("point", "action"), CHOSEN)
def test_a_transaction_is_delivered_once_and_whole_whenever_it_is_hit(
    point: str,
    action: str,
    bench: Bench,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Guards against state that is right before a transaction and after it, and wrong inside of it."""
    with LiveReader(bench.kafka.bootstrap(), bench.topic) as reader:
        scan = Scan(bench, reader, point, action)
        for at in count(1) if FULL else PASSES:
            if not scan.hit(at):
                break
        scan.finish()
    records = read(bench.kafka.bootstrap(), bench.topic)
    found = Counter(map(_number, records))
    torn = _torn(records, markers(bench.kafka, bench.topic))
    lost = scan.written * ROWS - len(found)
    doubled = found.total() - len(found)
    record_property("hits", scan.hits)
    record_property("verdict", {"lost": lost, "doubled": doubled, "torn": len(torn)})
    with capsys.disabled():
        print(f"\n{point}={action}, {scan.hits} passes, {scan.written} transactions: {lost=}, {doubled=}, {torn=}")
    assert scan.hits >= (4 if FULL else 1), "a transaction passed the place fewer times than it has pieces"
    assert list(map(_number, records)) == list(range(1, scan.written * ROWS + 1))
    assert torn == []


def _number(record: Record) -> int:
    number = json.loads(record.key or b"")["id"]
    assert isinstance(number, int)
    return number


def _torn(records: Sequence[Record], marks: Sequence[Marker]) -> list[int]:
    """Source transactions that more than one Kafka transaction has rows of."""
    ends = sorted(mark.offset for mark in marks if mark.committed)
    homes: dict[int, set[int]] = {}
    for record in records:
        end = next((end for end in ends if end > record.offset), -1)
        homes.setdefault((_number(record) - 1) // ROWS, set()).add(end)
    return [number for number, some in homes.items() if len(some) > 1]
