"""What a Kafka sink refuses before its door opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deltaforge.errors import Refused
from deltaforge.model import NOWHERE, Anchor, Checkpoint, Lease, Lsn, Position, Progress, SlotState, Stored, TopicMark
from deltaforge.sinks.kafka.faults import missing_topic
from deltaforge.sinks.kafka.opening import Identity, LeaseLost, check_lease, compare_topics, go_on_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LEASE = Lease(3, 4711, "77", 1, (), "shop", "s", Lsn(900))
SLOT = SlotState(True, 4711, Lsn(900), Lsn(800), "reserved", Lsn(5000), "77", "shop", 0)
IDENTITY = Identity("pub", "v1", "me")


def record(state: str, flush: int, *, topics: Sequence[TopicMark] = (), options: str = "v1", at: int = 0) -> Checkpoint:
    """A checkpoint; `at` = commit LSN of the transaction it stands on."""
    progress = Progress(
        Position(Lsn(at), 3) if at else NOWHERE, Anchor(Lsn(at), 9, 1) if at else None, Lsn(0), Lsn(flush)
    )
    return Checkpoint(state, "77", 1, "shop", "s", "pub", options, "me", 5, progress, tuple(topics))


class Topic:
    """A checkpoint topic that says what the test wants. The real one is tested against a real broker."""

    name = "_deltaforge.p.k"

    def __init__(self, stored: Stored, marks: Sequence[TopicMark] = ()) -> None:
        self.stored, self.marks = stored, {mark.topic: mark for mark in marks}

    async def read(self, *, wait_s: float, held_up: Callable[[str], None]) -> Stored:
        return self.stored

    async def topic_marks(self, topics: Sequence[str]) -> tuple[TopicMark, ...]:
        for topic in topics:
            if topic not in self.marks:
                raise missing_topic(topic)
        return tuple(self.marks[topic] for topic in topics)


async def slot() -> SlotState:  # noqa: ASYNC124 - stands for a question to the server
    """The slot, ours."""
    return SLOT


def untold(why: str) -> None:
    """Nothing holds up a topic that is not real."""
    raise AssertionError(why)


async def opened(topic: Topic, expected: Sequence[str] = ()) -> object:
    """Step through the opening."""
    return await go_on_from(
        LEASE, topic, slot, IDENTITY, wait_s=1, accept_gap=Lsn(0), expected_topics=expected, held_up=untold
    )


MARK = TopicMark("orders", "id-1", (10, 20))


async def test_it_goes_on_from_the_running_record_before_born() -> None:
    """Guards against starting over from the slot's birth."""
    stored = Stored(born=record("born", 100), running=record("running", 950, at=920))
    result = await go_on_from(
        LEASE, Topic(stored), slot, IDENTITY, wait_s=1, accept_gap=Lsn(0), expected_topics=(), held_up=untold
    )
    assert result.progress.flush_lsn == 950


@pytest.mark.fault("K11")
async def test_no_record_behind_a_held_slot_is_refused() -> None:
    """Guards against streaming over an emptied checkpoint topic."""
    with pytest.raises(Refused, match="holds no record"):
        await opened(Topic(Stored(creating=record("creating", 0))))


async def test_a_slot_held_by_another_walsender_is_a_lost_lease() -> None:
    """Guards against fencing the rightful instance."""

    async def taken() -> SlotState:  # noqa: ASYNC124 - as above
        return SlotState(True, 1, Lsn(900), Lsn(800), "reserved", Lsn(5000), "77", "shop", 0)

    with pytest.raises(LeaseLost):
        await check_lease(taken, LEASE)


@pytest.mark.fault("G9")
async def test_changed_options_are_refused_only_in_mid_transaction() -> None:
    """Guards against counting the rest of a half delivered transaction by other rules."""
    half = Stored(running=record("running", 900, at=920, options="v0"))
    with pytest.raises(Refused, match="half delivered"):
        await opened(Topic(half))
    await opened(Topic(Stored(running=record("running", 950, at=920, options="v0"))))


@pytest.mark.fault("K10")
async def test_a_data_topic_that_held_records_must_still_be_there() -> None:
    """Guards against going on after somebody deleted what was delivered."""
    stored = Stored(running=record("running", 950, at=920, topics=[MARK]))
    with pytest.raises(Refused, match="orders"):
        await opened(Topic(stored))


@pytest.mark.fault("K7", "K10")
@pytest.mark.parametrize(
    ("now", "why"),
    [
        (TopicMark("orders", "id-2", (10, 20)), "recreated"),
        (TopicMark("orders", "id-1", (10, 19)), "partition 1 ends at offset 19"),
        (TopicMark("orders", "id-1", (10,)), "1 partitions, expected 2"),
    ],
)
def test_a_data_topic_that_lost_something_is_refused(now: TopicMark, why: str) -> None:
    """Guards against going on after the cluster lost acknowledged records."""
    with pytest.raises(Refused, match=why):
        compare_topics([MARK], [now])


@pytest.mark.fault("K10")
def test_added_partitions_do_not_move_keys() -> None:
    """Guards against a key whose versions are spread over two partitions."""
    marks, warnings = compare_topics([MARK], [TopicMark("orders", "id-1", (11, 22, 0))])
    assert marks == (TopicMark("orders", "id-1", (11, 22)),)
    assert "1 new partitions" in warnings[0]
