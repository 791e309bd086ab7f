"""Where we are and whether we may go on: the pure half of the delivery protocol.

Used by the sinks (door, guard) and by the first start. No I/O, no clock. The protocol, its reasons and the traps it
answers are told in docs/explanation/delivery.md; an executable model of it lives in tests/model.

Rule 1: a position is (commit LSN, index). LSNs of single messages never order anything.
Rule 2: only the Door skips. Every sink has one Door per epoch; it takes items in stream order, each following the last.
Rule 3: before anything above the durable position passes, the stream must have shown the anchor (unless the slot stands
        above it already). LSN comparisons alone cannot tell a restored copy from the original.
Rule 4: nothing new may appear below flush_lsn: that range was declared finished.
"""

from __future__ import annotations

import zlib
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from deltaforge.errors import Refused
from deltaforge.model import (
    Anchor,
    Checkpoint,
    Item,
    Lease,
    LogicalMessage,
    Lsn,
    Position,
    Progress,
    SlotState,
    Stored,
    TransactionPart,
    TransactionRun,
    Watermark,
)
from deltaforge.runs import parts

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_LSN = Lsn(0)

XLOG_HEADER = 25
"""Bytes of an XLogData header before the pgoutput message."""


class Passed(msgspec.Struct, frozen=True):
    """The door's verdict on one item: how many of its leading events to skip, and whether any remain."""

    skip: int
    events: int
    """Events that pass."""
    ends: bool = False
    """The COMMIT of a part passes; it does so without any event when a checkpoint stood right before it."""


def item_position(item: Item) -> Position:
    """Position of the last thing in `item`."""
    return Position(item.lsn, -1) if isinstance(item, Watermark) else item.last


def item_flush(item: Item) -> Lsn:
    """What may be confirmed once everything up to `item` is durable; 0 in mid-transaction."""
    return item.end_lsn if isinstance(item, TransactionPart | TransactionRun) else item.lsn


def anchor_of(item: TransactionPart | TransactionRun | LogicalMessage) -> Anchor:
    """How to recognise `item`, or the last transaction of a run, in a later stream."""
    if isinstance(item, TransactionPart | TransactionRun):
        return Anchor(item.commit_lsn, item.xid, item.commit_time_us)
    # After the XLogData header: 'M', flags, LSN; then prefix, NUL, length, content.
    return Anchor(item.lsn, message_crc=zlib.crc32(item.message[XLOG_HEADER + 10 :]))


class Door:
    """Where events enter a sink's Kafka transaction: the one place that skips. One per sink and epoch.

    `accepted` is the progress a checkpoint would record now; `durable` only moves by `committed`.
    """

    def __init__(self, lease: Lease, durable: Progress) -> None:
        self.durable = self.accepted = durable
        self._origin = durable
        self._end = 0
        self._began, self._reached = lease.confirmed_flush, Lsn(0)
        anchor = durable.anchor
        # The anchor is sent again only when the slot stands at or before it; a message not at equality.
        self._seen = anchor is None or (
            lease.confirmed_flush >= anchor.lsn
            if anchor.message_crc is not None
            else lease.confirmed_flush > anchor.lsn
        )

    def follows(self, prev: int, end: int) -> bool:
        """Whether what spans `prev`..`end` of the stream comes right after what was taken; if so, it is taken."""
        if prev != self._end:
            return False
        self._end = end
        return True

    def pieces(self, item: Item) -> Sequence[Item]:
        """How `item` has to be taken: a run of which something may be old goes transaction by transaction."""
        if not isinstance(item, TransactionRun):
            return (item,)
        origin = self._origin
        new = self._seen and item.first_commit_lsn > max(origin.position.commit_lsn, origin.flush_lsn)
        return (item,) if new else parts(item)

    def take(self, item: Item) -> Passed:
        """Decide what of `item`, one of the `pieces`, is new.

        Raises:
          Refused: the stream is not the history the durable position belongs to.
        """
        position, start = item_position(item), self._origin.position
        if not self._seen and not isinstance(item, Watermark):
            self._seen = anchor_of(item) == self._origin.anchor
        self._check(item, position)
        self._reached = Lsn(max(self._reached, item_flush(item) or position.commit_lsn))
        skip = events = 0
        ends = False
        if isinstance(item, TransactionRun):
            events = item.events
        elif isinstance(item, TransactionPart):
            skip = _skipped(item, start)
            events = item.events - skip
            ends = item.committed and position > start
        elif isinstance(item, LogicalMessage):
            events = int(position > start)
        self._accept(item, position)
        return Passed(skip, events, ends)

    def _check(self, item: Item, position: Position) -> None:
        origin = self._origin
        mark = isinstance(item, Watermark)
        above = position.commit_lsn > origin.position.commit_lsn if mark else position > origin.position
        if not above:
            return
        if not self._seen:
            raise history_differs(origin, f"the stream went on to {position.commit_lsn} without it")
        finished = origin.flush_lsn + (1 if isinstance(item, LogicalMessage) else 0)
        if not mark and position.commit_lsn < finished:
            raise history_differs(origin, f"a change at {position.commit_lsn} appeared below the confirmed position")

    def _accept(self, item: Item, position: Position) -> None:
        accepted = self.accepted
        flush = Lsn(max(accepted.flush_lsn, item_flush(item)))
        if isinstance(item, Watermark):
            if flush > accepted.flush_lsn:
                self.accepted = msgspec.structs.replace(accepted, flush_lsn=flush)
            return
        # A message ends no transaction: the assembler's `previous_end` does not count it either.
        ended = NO_LSN if isinstance(item, LogicalMessage) else item.end_lsn
        last_end = Lsn(max(accepted.last_commit_end_lsn, ended))
        if position > accepted.position:
            self.accepted = Progress(position, anchor_of(item), last_end, flush)
        elif flush > accepted.flush_lsn or last_end > accepted.last_commit_end_lsn:
            self.accepted = msgspec.structs.replace(accepted, flush_lsn=flush, last_commit_end_lsn=last_end)

    def committed(self, progress: Progress) -> None:
        """`progress` is durable now."""
        self.durable = progress

    @property
    def confirmable(self) -> Lsn:
        """What PostgreSQL may be told on this stream: durable, and reached by this very stream; else 0."""
        flush = self.durable.flush_lsn
        return flush if self._seen and self._reached >= flush else Lsn(0)

    @property
    def event_end(self) -> Lsn:
        """Where the newest durable event ends, or this stream began: above it lies only WAL without durable events."""
        durable = self.durable
        message = durable.position.commit_lsn if durable.position.index == -1 else NO_LSN
        return Lsn(max(self._began, durable.last_commit_end_lsn, message))


def _skipped(part: TransactionPart, start: Position) -> int:
    """How many leading events of `part` are at or below `start`."""
    if part.commit_lsn != start.commit_lsn:
        return part.events if part.commit_lsn < start.commit_lsn else 0
    return min(max(start.index + 1 - part.first_index, 0), part.events)


def history_differs(durable: Progress, found: str) -> Refused:
    """The refusal of rule 3 and 4."""
    anchor = durable.anchor
    where = f"{anchor.lsn} (xid {anchor.xid})" if anchor else str(durable.flush_lsn)
    return Refused(
        f"history differs: the checkpoint stands on {where} and flushed {durable.flush_lsn}, but {found}",
        hint="either the server holds another history (restore, failover with a lost tail) or the publication or its "
        "options changed while a transaction was half delivered; nothing was moved",
    )


def guard(record: Checkpoint, lease: Lease, slot: SlotState, accept_gap: Lsn = NO_LSN) -> Progress:
    """May this sink go on from `record` under `lease`? Return the progress to go on from.

    `slot` has to be read after the record. `accept_gap` is the operator's flag: valid for exactly this flush_lsn.

    Raises:
      Refused: system, database, slot, confirmed position, WAL end or timeline do not fit the record.
    """
    identity(record, lease.system_id, lease.database, lease.slot)
    progress = record.progress
    reached = max(progress.flush_lsn, progress.position.commit_lsn)
    if slot.current_wal < reached:
        raise Refused(
            f"the server's WAL ends at {slot.current_wal}, before the checkpoint at {Lsn(reached)}: this server has "
            "lost changes that are already in Kafka",
            hint="it was restored or failed over to an older state; see docs/howto/recover.md",
        )
    _timeline(record, lease, Lsn(reached))
    # Where the stream began counts. What moved the slot since is our own confirmation, by the word of the sinks that
    # the policy waits for; a sink that opens late has all of it waiting.
    if lease.confirmed_flush > progress.flush_lsn:
        if accept_gap and accept_gap == progress.flush_lsn:
            return msgspec.structs.replace(progress, flush_lsn=lease.confirmed_flush)
        raise gap(progress.flush_lsn, lease.confirmed_flush, lease.slot)
    return progress


def gap(flush: Lsn, confirmed: Lsn, slot: str) -> Refused:
    """The refusal for a slot that stands past what Kafka holds."""
    return Refused(
        f'slot "{slot}" stands at {confirmed}, expected at most {flush}: changes between {flush} and {confirmed} '
        "would be lost (the slot was advanced, recreated or read by another tool)",
        hint=f"re-snapshot the tables, or accept the loss of exactly this range with --accept-gap={flush}",
    )


def identity(record: Checkpoint, system_id: str, database: str, slot: str) -> None:
    """A checkpoint belongs to one server, database and slot. Raises Refused when it is another's."""
    for name, expected, found in (
        ("system identifier", record.system_id, system_id),
        ("database", record.database, database),
        ("slot", record.slot, slot),
    ):
        if expected != found:
            raise Refused(
                f"wrong source: the checkpoint was written for {name} {expected}, but the configuration reaches "
                f"{name} {found}",
                hint="correct the DSN or the slot name, or give this pipeline another name",
            )


def _timeline(record: Checkpoint, lease: Lease, reached: Lsn) -> None:
    if record.timeline == lease.timeline:
        return
    for switch in lease.history:
        if switch.timeline == record.timeline:
            if switch.end >= reached:
                return
            raise Refused(
                f"timeline {record.timeline} ended at {switch.end}, before the checkpoint at {reached}: changes "
                "between them are in Kafka but not on this server",
                hint="the failover lost the end of the old primary's WAL; see docs/howto/recover.md",
            )
    raise Refused(
        f"the checkpoint was written on timeline {record.timeline}, which is not in the history of the server's "
        f"timeline {lease.timeline}",
        hint="this server is not a successor of the one that was streamed from; correct the DSN",
    )


_LOST = {
    "wal_removed": "the server removed WAL it still needed (max_slot_wal_keep_size)",
    "idle_timeout": "nobody read it for longer than idle_replication_slot_timeout",
    "rows_removed": "the server removed rows of its catalog that it still needed",
    "wal_level_insufficient": "wal_level was lowered",
}
"""By PostgreSQL's word for it."""


class Start(Enum):
    """What the first start has to do next."""

    WRITE_CREATING = "write creating"
    CREATE_SLOT = "create slot"
    WAIT = "wait"
    ADOPT = "write born with the slot's position"
    COPY_BORN = "write born as the other sinks have it"
    STREAM = "stream"
    LOOK_AGAIN = "look again"


def first_start(
    slot: SlotState,
    stored: tuple[Stored, ...],
    *,
    looked_twice: bool,
    adopt: Lsn = NO_LSN,
    accept_gap: Lsn = NO_LSN,
    enough: bool = False,
) -> Start:
    """Decide the next step from the slot (looked at first) and what every Kafka sink's checkpoint topic holds.

    No Kafka sink (`stored` empty): the slot alone decides. `adopt` and `accept_gap` are the operator's flags. `enough`:
    the commit policy can do without the sinks that have no position.

    Raises:
      Refused: slot or record is missing, after a second look.
    """
    if slot.wal_status == "lost":
        raise Refused(
            f"the replication slot is lost: {_LOST.get(slot.lost_because, _LOST['wal_removed'])}",
            hint="drop the slot and take a new snapshot; nothing can be read from it any more",
        )
    begun = [s for s in stored if s.running or s.born]
    if not stored:
        return _wait_or(slot, Start.STREAM) if slot.exists else Start.CREATE_SLOT
    if not begun:
        return _not_begun(slot, stored, looked_twice, adopt)
    if slot.exists:
        if len(begun) == len(stored):
            return Start.STREAM
        if all(s.newest for s in stored) and any(s.born for s in stored):
            return Start.COPY_BORN
        if enough and looked_twice:
            return Start.STREAM
        return _again(looked_twice, _sink_without_record(slot))
    flush = min(s.newest.progress.flush_lsn for s in begun if s.newest)
    if accept_gap and accept_gap == flush:
        return Start.CREATE_SLOT
    return _again(looked_twice, _slot_missing(flush, slot.current_wal))


def _not_begun(slot: SlotState, stored: tuple[Stored, ...], looked_twice: bool, adopt: Lsn) -> Start:
    created = all(s.creating for s in stored)
    if not slot.exists:
        return Start.CREATE_SLOT if created else Start.WRITE_CREATING
    if created:
        return _wait_or(slot, Start.ADOPT)
    if adopt and adopt == slot.confirmed_flush:
        return Start.WRITE_CREATING
    return _again(looked_twice, _record_missing(slot))


def _wait_or(slot: SlotState, step: Start) -> Start:
    return step if slot.confirmed_flush else Start.WAIT


def _again(looked_twice: bool, refusal: Refused) -> Start:
    """Another first start may be under way: look once more before refusing."""
    if looked_twice:
        raise refusal
    return Start.LOOK_AGAIN


def _slot_missing(flush: Lsn, wal: Lsn) -> Refused:
    return Refused(
        f"the replication slot does not exist, expected it at {flush} or before, where the checkpoint stands: "
        f"changes between {flush} and {wal}, the server's WAL end, would be lost",
        hint=f"re-snapshot, or accept the loss with --accept-gap={flush} (a new slot is made)",
    )


def _record_missing(slot: SlotState) -> Refused:
    return Refused(
        f"the slot stands at {slot.confirmed_flush}, but there is no checkpoint record, expected one (topic deleted or "
        f"emptied?): changes between {slot.confirmed_flush} and {slot.current_wal}, the server's WAL end, could be "
        "repeated, and whether Kafka has everything before is unknown",
        hint=f"restore the checkpoint topic, or start from the slot with --adopt-slot={slot.confirmed_flush}",
    )


def _sink_without_record(slot: SlotState) -> Refused:
    return Refused(
        f"one Kafka sink has no checkpoint record while another one has; the slot stands at {slot.confirmed_flush}",
        hint="restore its checkpoint topic, or give the new sink a pipeline of its own",
    )
