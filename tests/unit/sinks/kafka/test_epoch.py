"""One epoch of a Kafka sink against a session that does what the test wants. The real one: tests/integration."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest
import trio
import trio.testing

from actors import ActorContext
from deltaforge.config.schema import Batching
from deltaforge.envelopes.base import spec_for
from deltaforge.envelopes.heartbeat import Heartbeat, heartbeat_of
from deltaforge.errors import TransientError
from deltaforge.model import Batch, Item, Lsn, Progress, TopicMark
from deltaforge.sinks.kafka.actor import Memory
from deltaforge.sinks.kafka.epoch import Epoch, LostOnTheWay
from deltaforge.sinks.kafka.opening import Identity, Opened
from deltaforge.sinks.kafka.producer import Doubt
from tests.support.sink_rig import Handles, lease, mark, part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.envelopes.base import Encoded

MARK = TopicMark("t", "id", (0,))


class Session:
    """Takes records at once, unless told to be slow; commits when `commit` is set."""

    inflight = 0
    pause_s = took_s = 0.0
    late = False

    def __init__(self) -> None:
        self.produced: list[str] = []
        self.produce_s = 0.0
        self.settles = 0
        self.commit = trio.Event()
        self.fault: TransientError | None = None

    def begin(self) -> None:
        pass

    async def produce(self, encoded: Encoded, partitions: Sequence[int]) -> None:
        await trio.sleep(self.produce_s)
        self.produced += [(value or b"").decode() for value in encoded.values]

    def handed(self, nbytes: int) -> None:
        pass

    def delivered(self) -> int:
        return 0

    def check(self) -> None:
        pass

    async def settle(self, topic: str, record: tuple[bytes, bytes]) -> bool:
        self.settles += 1
        await self.commit.wait()
        if self.fault is not None:
            raise Doubt(self.fault)
        return False


class Checkpoints:
    """Knows the one data topic, which never changes."""

    name = "_checkpoints"

    async def pinned(self, marks: Sequence[TopicMark]) -> frozenset[tuple[str, int, int]]:
        """Nobody is held up."""
        return frozenset()

    async def topic_marks(self, topics: Sequence[str]) -> tuple[TopicMark, ...]:
        return (MARK,)


class Bench:
    """An epoch, its session and who feeds it."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        transaction_timeout_s: float = 300.0,
        heartbeat: Heartbeat | None = None,
        batching: Batching | None = None,
    ) -> None:
        self.handles = Handles()
        self.handles.epoch.set(1)
        self.handles.budget.reset(1)
        small = self.handles.wiring()
        wiring = SimpleNamespace(
            config=SimpleNamespace(exactly_once=True, send_timeout_secs=60.0),
            batching=batching or Batching(),
            inbox=small.inbox,
            receipts=small.receipts,
            budget=small.budget,
            encoder=small.encoder,
            metrics=small.metrics,
            checkpoint=Checkpoints(),
            identity=Identity("pub", "v1", "me"),
            encode_record=lambda _: (b"", b""),
            transaction_timeout_s=transaction_timeout_s,
            now_ns=lambda: 0,
            heartbeat=heartbeat,
        )
        self.session = Session()
        opened = Opened(Progress(flush_lsn=Lsn(1)), Lsn(1), 0, (MARK,))
        self.memory = Memory()
        self.epoch = Epoch(cast("Any", wiring), lease(1), opened, cast("Any", self.session), nursery, self.memory)

    async def feed(self, *items: Item) -> None:
        """One batch."""
        await self.handles.feed(*items)

    async def stream(self) -> None:
        """Work for a minute of the test's clock."""
        with trio.move_on_after(60):
            await self.epoch.stream(ActorContext("sink"))


@pytest.fixture
def bench(nursery: trio.Nursery) -> Bench:
    """Nothing has happened yet."""
    return Bench(nursery)


async def test_after_a_failed_commit_nothing_more_is_committed(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards against an idle checkpoint, already due, on a producer about which nobody knows anything."""
    bench.session.fault = TransientError("no answer")
    await bench.feed(part(1, 10, 0, 1, end=11))
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(1)
            await bench.feed(mark(20))
            await trio.sleep(20)
            bench.session.commit.set()

        nursery.start_soon(later)
        with pytest.raises(TransientError, match="no answer"):
            await bench.stream()
        await trio.testing.wait_all_tasks_blocked()
    assert bench.session.settles == 1


@pytest.mark.fault("K9")
async def test_a_slow_kafka_is_not_taken_for_a_silent_stream(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards a large transaction against a rewind, and at the second time a split, that the stream did not cause."""
    bench.session.produce_s = 40
    await bench.feed(part(1, 10, 0, 1))
    await bench.stream()
    assert bench.session.produced == ['{"id":"1.0"}']


@pytest.mark.fault("K9")
async def test_a_slow_commit_is_not_taken_for_a_silent_stream(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards against a second checkpoint record inside the commit in flight: it would count rows not produced yet."""
    bench.memory.silent_at = Lsn(20)
    await bench.feed(part(1, 10, 0, 1, end=11))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.stream)
        await trio.testing.wait_all_tasks_blocked()
        await bench.feed(part(2, 20, 0, 1))
        await trio.sleep(50)
        assert bench.session.settles == 1
        assert bench.session.produced == ['{"id":"1.0"}']
        bench.session.commit.set()
        await trio.testing.wait_all_tasks_blocked()
        assert bench.session.produced == ['{"id":"1.0"}', '{"id":"2.0"}']
        nursery.cancel_scope.cancel()


async def test_silence_is_noticed_before_kafka_ends_the_transaction(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards against a transaction that expires in Kafka at every try, before anybody finds the stream silent."""
    bench = Bench(nursery, transaction_timeout_s=20.0)
    await bench.feed(part(1, 10, 0, 1))
    began = trio.current_time()
    with pytest.raises(LostOnTheWay, match="no data for 10 s"):
        await bench.stream()
    assert trio.current_time() - began < 20


async def test_a_batch_without_items_does_not_keep_a_kafka_transaction_open(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards the latency of a commit behind which nothing but a BEGIN waits: it would end ten seconds later."""
    await bench.feed(part(1, 10, 0, 1, end=11))
    await bench.handles.inbox.send(Batch(1, 1, 2, [], 0, 0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.stream)
        await trio.sleep(1)
        assert bench.session.settles == 1
        nursery.cancel_scope.cancel()


BEAT = '{"ts_ms":0}'


def beating(nursery: trio.Nursery, seconds: int) -> Bench:
    """Heartbeats are due every so many seconds; commits take no time."""
    spec = spec_for(topic="t", topic_prefix="gold", database="db", heartbeat_topic="beats", heartbeat_ms=seconds * 1000)
    found = Bench(nursery, heartbeat=heartbeat_of(spec))
    found.session.commit.set()
    return found


async def test_an_idle_stream_beats_at_every_interval_with_a_checkpoint(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards against heartbeats that only a change sets off, which say nothing about an idle database."""
    bench = beating(nursery, 7)
    await bench.stream()
    assert bench.session.produced == [BEAT] * 8
    assert bench.session.settles == 8


async def test_a_heartbeat_goes_with_a_commit_that_comes_anyway(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards against a commit of its own for every heartbeat of a busy stream."""
    bench = beating(nursery, 3)
    bench.session.produce_s = 10
    await bench.feed(part(1, 10, 0, 1, end=11))
    with trio.move_on_after(21):
        await bench.stream()
    assert bench.session.produced == ['{"id":"1.0"}', BEAT]
    assert bench.session.settles == 1


async def test_no_heartbeat_stands_inside_a_source_transaction_that_goes_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards against a transaction committed in two pieces because a heartbeat was due."""
    bench = beating(nursery, 1)
    await bench.feed(part(1, 10, 0, 1))
    with trio.move_on_after(20):
        await bench.stream()
    assert bench.session.produced == ['{"id":"1.0"}']
    assert bench.session.settles == 0


@pytest.mark.fault("K9")
async def test_what_came_too_late_is_sent_again_in_smaller_transactions(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards against sizes of what has begun since, and against a failure at once that counts as a slow line."""
    bench.session.fault = TransientError("not taken in time")
    missed: list[tuple[int, int]] = []
    bench.memory.room.missed = lambda nbytes, lsn: missed.append((nbytes, lsn))  # type: ignore[method-assign]
    await bench.feed(part(1, 10, 0, 3, end=11))
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            await bench.feed(part(2, 20, 0, 9, end=21))
            await trio.testing.wait_all_tasks_blocked()
            bench.session.commit.set()

        nursery.start_soon(later)
        with pytest.raises(TransientError):
            await bench.stream()
    bench.epoch.remember_expiry()
    assert missed == []
    bench.session.late = True
    bench.epoch.remember_expiry()
    (nbytes, lsn), whole = missed[0], sum(map(len, bench.session.produced))
    assert (lsn, whole <= nbytes < 2 * whole) == (10, True)


@pytest.mark.fault("K9")
@pytest.mark.parametrize(("took_s", "grows"), [(1.0, True), (50.0, False)])
async def test_a_quick_commit_makes_room(
    bench: Bench, autojump_clock: trio.testing.MockClock, took_s: float, grows: bool
) -> None:
    """Guards against one slow hour that leaves small transactions for ever."""
    bench.memory.room.nbytes = 10
    bench.session.took_s = took_s
    bench.session.commit.set()
    await bench.feed(part(1, 10, 0, 1, end=11))
    await bench.stream()
    assert (bench.memory.room.nbytes > 10) == grows


@pytest.mark.fault("K9")
async def test_what_is_kept_during_a_commit_fills_no_more_than_one_small_transaction(
    bench: Bench, autojump_clock: trio.testing.MockClock
) -> None:
    """Guards a slow line against all that came meanwhile in one piece, given up again after every single commit."""
    bench.memory.room.nbytes = 1
    await bench.feed(part(1, 10, 0, 1, end=11), part(2, 20, 0, 1, end=21), part(3, 30, 0, 1, end=31))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.stream)
        await trio.testing.wait_all_tasks_blocked()
        assert (bench.session.settles, len(bench.session.produced)) == (1, 1)
        bench.session.commit.set()
        await trio.testing.wait_all_tasks_blocked()
        assert (bench.session.settles, len(bench.session.produced)) == (3, 3)
        nursery.cancel_scope.cancel()


@pytest.mark.fault("K9")
@pytest.mark.parametrize(("on_large_tx", "parts"), [("split", 1), ("halt", 0)])
async def test_a_source_transaction_that_was_late_twice_is_split_unless_that_is_forbidden(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, on_large_tx: Literal["split", "halt"], parts: int
) -> None:
    """Guards against a pipeline that refuses for good because a line was slow."""
    bench = Bench(nursery, batching=Batching(on_large_tx=on_large_tx))
    bench.memory.room.nbytes = 1
    for _ in range(2):
        bench.memory.room.missed(0, Lsn(10))
    bench.session.commit.set()
    await bench.feed(part(1, 10, 0, 1))
    with trio.move_on_after(1):
        await bench.stream()
    assert bench.session.settles == parts
