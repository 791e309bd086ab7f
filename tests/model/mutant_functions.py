"""Wrong functions for the places of the product's right ones: each leaves one rule out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from deltaforge import position
from deltaforge.checkpoint import policy, record, scan
from deltaforge.model import Confirm, Item, Lsn, Position, Watermark
from deltaforge.position import NO_LSN, Door
from deltaforge.sinks.kafka import grouping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deltaforge.graph import Graph, SinkUnit
    from deltaforge.model import (
        Checkpoint,
        Lease,
        LogicalMessage,
        Progress,
        Receipt,
        SlotState,
        Stored,
        TopicMark,
        TransactionPart,
    )

RIGHT_SKIP, RIGHT_ANCHOR, RIGHT_GUARD = position._skipped, position.anchor_of, position.guard
RIGHT_FIRST_START, RIGHT_ENCODE, RIGHT_COMBINE = position.first_start, record.encode, policy.combine


def skips_one_less(part: TransactionPart, start: Position) -> int:
    """`<` where `<=` belongs."""
    return max(0, RIGHT_SKIP(part, start) - 1)


def skips_by_commit(part: TransactionPart, start: Position) -> int:
    """A position that is an LSN alone."""
    return part.events if part.commit_lsn <= start.commit_lsn else 0


def message_at_index_0(message: LogicalMessage) -> Position:
    return Position(message.lsn, 0)


def commit_without_index(part: TransactionPart) -> Position:
    return Position(part.commit_lsn, part.first_index + part.events - 1)


def anchor_without_time(item: Item) -> object:
    return msgspec.structs.replace(RIGHT_ANCHOR(item), commit_time_us=0)  # type: ignore[arg-type]


def guards_nothing(record: Checkpoint, lease: Lease, slot: SlotState, accept_gap: Lsn = NO_LSN) -> Progress:
    return record.progress


def guards_not_the_wal_end(record: Checkpoint, lease: Lease, slot: SlotState, accept_gap: Lsn = NO_LSN) -> Progress:
    return RIGHT_GUARD(record, lease, msgspec.structs.replace(slot, current_wal=Lsn(2**60)), accept_gap)


def guards_by_the_slot_now(record: Checkpoint, lease: Lease, slot: SlotState, accept_gap: Lsn = NO_LSN) -> Progress:
    """Where the slot stands by now counts, not where the stream began."""
    return RIGHT_GUARD(record, msgspec.structs.replace(lease, confirmed_flush=slot.confirmed_flush), slot, accept_gap)


def looks_once(slot: SlotState, stored: tuple[Stored, ...], **rest: Any) -> position.Start:
    return RIGHT_FIRST_START(slot, stored, **(rest | {"looked_twice": True}))


def fastest(
    mode: str, quorum: int | None, receipts: Mapping[str, Receipt | None], required: object, epoch: int
) -> Confirm | None:
    """A policy that counts a sink that is behind."""
    return Confirm(epoch, max((r.flush_lsn for r in receipts.values() if r), default=Lsn(0)))


def one_too_few(mode: str, quorum: int | None, *rest: Any) -> Confirm | None:
    return RIGHT_COMBINE(mode, (quorum or 1) - 1, *rest)


def at_once(confirm: Confirm, receipts: object) -> Confirm:
    """WAL without events waits for nobody."""
    return confirm


def always(*asked: object) -> bool:
    return True


def never(*asked: object) -> bool:
    return False


def parked_when_left_behind(graph: Graph, unit: SinkUnit) -> bool:
    """Who was left behind counts as gone for good."""
    return not unit.attachment.attached or graph.reports[unit.id][0] == "detached"


def nothing(*asked: object) -> None:
    """A check that finds nothing."""


def whatever_is_found(recorded: object, found: Sequence[TopicMark]) -> tuple[Sequence[TopicMark], tuple[str, ...]]:
    """Data topics are not held against the record."""
    return found, ()


class Believing(Door):
    """Takes the anchor for seen."""

    def __init__(self, lease: Lease, durable: Progress) -> None:
        super().__init__(lease, durable)
        self._seen = True


class Forgiving(Door):
    """Lets changes appear in a range that was declared finished."""

    def _check(self, item: Item, position: Position) -> None:
        finished = self._origin.flush_lsn
        if isinstance(item, Watermark) or position.commit_lsn >= finished:
            super()._check(item, position)


class Unreached(Door):
    """Confirms the record before this stream has shown that it goes on there."""

    @property
    def confirmable(self) -> Lsn:
        return self.durable.flush_lsn


class Blind(Door):
    """Takes what does not follow."""

    def follows(self, prev: int, end: int) -> bool:
        return True


class Joining(Door):
    """Wants a stream to begin where the durable progress ends."""

    def follows(self, prev: int, end: int) -> bool:
        joins = self._origin.anchor is None or self._began == self._origin.flush_lsn
        return (prev > 0 or joins) and super().follows(prev, end)


class Lumping(Door):
    """Takes runs as a whole although part of them may be old."""

    def pieces(self, item: Item) -> tuple[Item, ...]:
        return (item,)


class Tearing(grouping.Grouping):
    """Ends Kafka transactions without looking for a COMMIT."""

    def end(self, *, at_commit: bool, more_waits: bool, now: float, lsn: int) -> grouping.End:
        return super().end(at_commit=True, more_waits=more_waits, now=now, lsn=lsn)


class OldestWins(scan.Newest):
    """Of what a checkpoint topic holds, `born` wins over `running`."""

    def close_window(self) -> bool:
        super().close_window()
        return False

    def stored(self) -> Stored:
        found = super().stored()
        return found if found.born is None else msgspec.structs.replace(found, running=None)


def without_index(checkpoint: Checkpoint) -> tuple[bytes, bytes]:
    """A record that leaves the index of the last event out."""
    at = checkpoint.progress.position
    progress = msgspec.structs.replace(checkpoint.progress, position=Position(at.commit_lsn, min(at.index, 0)))
    return RIGHT_ENCODE(msgspec.structs.replace(checkpoint, progress=progress))
