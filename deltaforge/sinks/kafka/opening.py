"""What a Kafka sink does at the start of every epoch, before its door opens.

The order is the protocol's: lease, then producer, then record, then slot, then guard. Each step is safe to be killed
after, and each answer is only worth something because the steps before it were done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from deltaforge.errors import Refused, TransientError
from deltaforge.position import guard
from deltaforge.sinks.kafka.faults import MissingTopic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from deltaforge.model import Checkpoint, Lease, Lsn, Progress, SlotState, Stored, TopicMark


class CheckpointReader(Protocol):
    """What the start of an epoch needs of a sink's checkpoint topic."""

    name: str

    async def read(self, *, wait_s: float, held_up: Callable[[str], None]) -> Stored: ...

    async def topic_marks(self, topics: Sequence[str]) -> tuple[TopicMark, ...]: ...


class CheckpointKeeper(CheckpointReader, Protocol):
    """What a sink needs of it all the time, beside producing to it."""

    async def pinned(self, marks: Sequence[TopicMark]) -> frozenset[tuple[str, int, int]]: ...


class LeaseLost(TransientError):
    """Another walsender holds the slot now: whoever owns it owns the transactional id."""

    hint = "normal when another instance takes over; this one stands by"


class Identity(msgspec.Struct, frozen=True):
    """What every record of one sink repeats."""

    publication: str
    options: str
    instance: str


class Opened(msgspec.Struct, frozen=True):
    """The result: where to go on, and what the data topics looked like."""

    progress: Progress
    recorded_flush: Lsn
    """flush_lsn as the record has it: below `progress` when a gap was accepted, which is not durable yet."""
    seq: int
    marks: tuple[TopicMark, ...]
    warnings: tuple[str, ...] = ()


async def check_lease(slot: Callable[[], Awaitable[SlotState]], lease: Lease) -> SlotState:
    """Ask the control session whether our walsender still holds the slot. Raises LeaseLost."""
    state = await slot()
    if state.active_pid != lease.walsender_pid or state.system_id != lease.system_id:
        raise LeaseLost(f'slot "{lease.slot}" is no longer held by this stream (walsender {lease.walsender_pid})')
    return state


async def go_on_from(
    lease: Lease,
    checkpoint: CheckpointReader,
    slot: Callable[[], Awaitable[SlotState]],
    identity: Identity,
    *,
    wait_s: float,
    accept_gap: Lsn,
    expected_topics: Sequence[str],
    held_up: Callable[[str], None],
) -> Opened:
    """Read the checkpoint record and decide whether this stream continues it (steps after init_transactions).

    `held_up` is told what the record is waited for, when that takes more than a moment.

    Raises:
      Refused: the guard says no.
      LeaseLost: the slot changed hands meanwhile.
      OperatorError: a data topic is missing.
    """
    stored = await checkpoint.read(wait_s=wait_s, held_up=held_up)
    state = await check_lease(slot, lease)
    record = stored.running or stored.born
    if record is None:
        raise Refused(
            f"the checkpoint topic {checkpoint.name} holds no record, but the slot stands at {state.confirmed_flush}: "
            "what is in Kafka is unknown and changes could be repeated or lost",
            hint="restore the topic; where it is the only Kafka sink, "
            f"start from the slot with --adopt-slot={state.confirmed_flush}",
        )
    progress = guard(record, lease, state, accept_gap)
    _same_options(record, identity)
    known = tuple(mark.topic for mark in record.topics)
    try:
        found = await checkpoint.topic_marks(known)
    except MissingTopic as error:
        raise Refused(
            f"{error}; it held delivered records",
            hint="restore it; to start over, remove the pipeline's checkpoint topic and slot",
        ) from None
    marks, warnings = compare_topics(record.topics, found)
    new = await checkpoint.topic_marks(tuple(topic for topic in expected_topics if topic not in known))
    return Opened(progress, record.progress.flush_lsn, record.seq, (*marks, *new), warnings)


def _same_options(record: Checkpoint, identity: Identity) -> None:
    """A transaction half delivered under other options cannot be continued: its events would be counted otherwise."""
    anchor = record.progress.anchor
    half = anchor is not None and anchor.message_crc is None and record.progress.flush_lsn <= anchor.lsn
    if half and record.options != identity.options:
        raise Refused(
            f"the transaction at {record.progress.position.commit_lsn} is half delivered and the publication or the "
            "stream options have changed since",
            hint="start once with the old settings until the transaction is through, then change them",
        )


def compare_topics(
    recorded: Sequence[TopicMark], found: Sequence[TopicMark]
) -> tuple[tuple[TopicMark, ...], tuple[str, ...]]:
    """Hold the data topics against the record. Returns the marks to go on with, and warnings.

    Raises:
      Refused: a topic was recreated, lost partitions, or lost its newest records.
    """
    now = {mark.topic: mark for mark in found}
    marks, warnings = dict(now), []
    for old in recorded:
        new = now[old.topic]
        if old.topic_id and new.topic_id != old.topic_id:
            raise Refused(
                f"topic {old.topic} was recreated: its id was {old.topic_id} and is {new.topic_id}; records are gone",
                hint="restore it; to start over, remove the pipeline's checkpoint topic and slot",
            )
        if len(new.high_watermarks) < len(old.high_watermarks):
            raise Refused(
                f"topic {old.topic} has {len(new.high_watermarks)} partitions, expected {len(old.high_watermarks)}",
                hint="restore the topic",
            )
        for partition, (before, after) in enumerate(zip(old.high_watermarks, new.high_watermarks, strict=False)):
            if after < before:
                raise Refused(
                    f"topic {old.topic}, partition {partition} ends at offset {after}, expected at least {before}: "
                    "the cluster lost records it had acknowledged",
                    hint="restore the partition's log; to start over, remove the pipeline's checkpoint topic and slot",
                )
        extra = len(new.high_watermarks) - len(old.high_watermarks)
        if extra:
            warnings.append(
                f"topic {old.topic} has {extra} new partitions; keys stay on the first {len(old.high_watermarks)}, "
                "since moving them would break their order"
            )
            kept = new.high_watermarks[: len(old.high_watermarks)]
            marks[old.topic] = msgspec.structs.replace(new, high_watermarks=kept)
    return tuple(marks.values()), tuple(warnings)
