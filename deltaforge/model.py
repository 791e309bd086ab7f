"""The values that flow between the stages. All frozen; stages meet only as these.

Rule 1: every item on a channel carries its `epoch` (one replication stream, from START_REPLICATION to its end).
Rule 2: every item but a Lease carries `prev` and `end`, counted from 0 in each epoch: chunks and segments count stream
        messages, batches count batches. An item follows another exactly when its `prev` is the other's `end`; a gap
        means something was lost on that hop and the epoch has to be replayed.
Rule 3: row messages stay the bytes PostgreSQL sent. Nobody builds an object per row.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Lsn(int):
    """A WAL byte position of PostgreSQL; prints as `16/B374D848`. Zero means unknown."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    __repr__ = __str__

    @classmethod
    def parse(cls, text: str) -> Lsn:
        """Read PostgreSQL's notation. Raises ValueError when `text` is not an LSN."""
        high, slash, low = text.partition("/")
        if not slash or not 0 < len(high) <= 8 or not 0 < len(low) <= 8:
            raise ValueError(f"not an LSN: {text!r}")
        return cls((int(high, 16) << 32) | int(low, 16))


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """Where an event stands: the LSN of its transaction's commit record, and its index in the transaction.

    The COMMIT itself has the index after the last event. A non-transactional logical message stands at
    (its own LSN, -1), a watermark likewise: before the first event of a transaction that commits at the same LSN.
    """

    commit_lsn: Lsn
    index: int


NOWHERE = Position(Lsn(0), -9)
"""Before everything."""


class PgType(msgspec.Struct, frozen=True):
    """A column type as the catalog knows it. `kind` is pg_type.typtype (b, c, d, e, p, r, m)."""

    oid: int
    name: str
    kind: str = "b"
    schema: str = "pg_catalog"
    element: PgType | None = None
    """Element type of an array, else None."""
    base: PgType | None = None
    """What a domain stands for (fully resolved), else None."""
    base_modifier: int = -1
    """The domain's type modifier; -1 = none."""
    labels: tuple[str, ...] = ()
    """Labels of an enum in the order they were added, as they were when the table was announced."""


class Column(msgspec.Struct, frozen=True):
    """One column as a Relation message announces it, plus what only the catalog knows."""

    name: str
    type: PgType
    modifier: int
    """atttypmod; -1 = none."""
    identity: bool
    """Part of the replica identity, as flagged in the Relation message."""
    not_null: bool = False
    default: str | None = None
    """pg_get_expr of the column default, None when there is none (or the column is generated)."""


class Relation(msgspec.Struct, frozen=True):
    """A table as one Relation message announces it, valid for the messages after it in the same epoch."""

    oid: int
    schema: str
    table: str
    identity: str
    """Replica identity: d(efault), n(othing), f(ull), i(ndex)."""
    columns: tuple[Column, ...]
    key: tuple[int, ...]
    """Indexes into `columns`: the primary key in key order, else a unique index over NOT NULL columns, else empty."""
    selected: bool = True
    """Whether the configuration names this table; changes of others count as events and give no records."""


class TimelineSwitch(msgspec.Struct, frozen=True):
    """One line of TIMELINE_HISTORY: `timeline` ended at `end`."""

    timeline: int
    end: Lsn


class Lease(msgspec.Struct, frozen=True):
    """The right to work: our walsender holds the slot since START_REPLICATION. First item of every epoch."""

    epoch: int
    walsender_pid: int
    system_id: str
    timeline: int
    history: tuple[TimelineSwitch, ...]
    """Ended timelines of the server, oldest first; empty on timeline 1."""
    database: str
    slot: str
    confirmed_flush: Lsn


class WalChunk(msgspec.Struct, frozen=True):
    """Up to 256 KiB or 5 ms of stream messages, as received.

    `messages` are whole CopyData payloads: XLogData ('w', start, end, clock, pgoutput message) or keepalive ('k').
    `relations` holds one Relation for each Relation message among them, in order.
    """

    epoch: int
    prev: int
    end: int
    messages: list[bytes]
    relations: tuple[Relation, ...]
    nbytes: int
    """Sum of the message sizes: what this chunk weighs in the pipeline's byte budget."""


class TransactionPart(msgspec.Struct, frozen=True):
    """Consecutive events of one committed transaction.

    `messages` are XLogData payloads: Relation, Type and Origin messages as well as the events (Insert, Update, Delete,
    Truncate, transactional Message). Index counts the events only.
    """

    xid: int
    commit_lsn: Lsn
    commit_time_us: int
    """Commit time in microseconds since 1970-01-01 UTC."""
    first_index: int
    events: int
    messages: list[bytes]
    relations: tuple[Relation, ...]
    end_lsn: Lsn
    """COMMIT's end LSN when the COMMIT belongs to this part, else 0."""
    previous_end: Lsn
    """End LSN of the transaction before this one on the stream (Debezium's lastCommitLsn); 0 = not seen yet."""
    nbytes: int

    @property
    def committed(self) -> bool:
        return self.end_lsn != 0

    @property
    def last(self) -> Position:
        """Position of the last thing in this part: of the COMMIT, if it is here, else of the last event."""
        return Position(self.commit_lsn, self.first_index + self.events - (0 if self.end_lsn else 1))


class TransactionRun(msgspec.Struct, frozen=True):
    """Whole committed transactions, one right after another, as one item: small ones then cost what a large one does.

    What it stands for are its parts (`deltaforge.runs.parts`), one for each transaction.
    """

    messages: list[bytes]
    """XLogData payloads from the first BEGIN to the last COMMIT, these included."""
    relations: tuple[Relation, ...]
    transactions: int
    events: int
    first_commit_lsn: Lsn
    previous_end: Lsn
    """End LSN of the transaction before the first one; 0 = not seen yet."""
    xid: int
    """Of the last transaction, as the fields below."""
    commit_lsn: Lsn
    commit_time_us: int
    last_events: int
    end_lsn: Lsn
    nbytes: int

    @property
    def last(self) -> Position:
        """Position of the last COMMIT."""
        return Position(self.commit_lsn, self.last_events)


class LogicalMessage(msgspec.Struct, frozen=True):
    """A non-transactional logical message: a transaction of one event, at (lsn, -1)."""

    lsn: Lsn
    message: bytes
    """The XLogData payload."""
    previous_end: Lsn
    nbytes: int

    @property
    def last(self) -> Position:
        return Position(self.lsn, -1)


class Watermark(msgspec.Struct, frozen=True):
    """A keepalive's WAL end: everything that committed below `lsn` has been sent on this stream."""

    lsn: Lsn


Item: TypeAlias = TransactionPart | TransactionRun | LogicalMessage | Watermark


class Segment(msgspec.Struct, frozen=True):
    """What the assembler made of one WalChunk."""

    epoch: int
    prev: int
    end: int
    items: list[Item]
    nbytes: int


class Batch(msgspec.Struct, frozen=True):
    """What a sink takes at once. Shaped by max_events, max_bytes, max_ms; never a promise about transactions."""

    epoch: int
    prev: int
    end: int
    items: list[Item]
    events: int
    nbytes: int


class Receipt(msgspec.Struct, frozen=True):
    """A sink's word: everything up to `position` is durable, and `flush_lsn` may be confirmed on this stream.

    `flush_lsn` is 0 until the door has taken an item of this very epoch that ends at or above it.
    """

    epoch: int
    position: Position
    flush_lsn: Lsn
    events: int
    """Events of this epoch that the sink knows durable (skipped ones included)."""
    event_end: Lsn = Lsn(0)
    """Where the newest durable event ends, or this stream began: what is confirmed above it is WAL without events."""


class Confirm(msgspec.Struct, frozen=True):
    """The checkpointer's word to the reader: tell PostgreSQL that `lsn` is flushed, on this epoch's stream only."""

    epoch: int
    lsn: Lsn


class SlotState(msgspec.Struct, frozen=True):
    """The replication slot and the server, seen in one query."""

    exists: bool
    active_pid: int
    """The walsender that holds the slot; 0 = nobody."""
    confirmed_flush: Lsn
    """0 = NULL: the slot is still being created."""
    restart_lsn: Lsn
    wal_status: str
    """reserved, extended, unreserved, lost; '' when the slot does not exist."""
    current_wal: Lsn
    system_id: str
    database: str
    retained_bytes: int
    lost_because: str = ""
    """Why the server gave the slot up, in its own word (since 17); '' = unknown, or not lost."""


class Anchor(msgspec.Struct, frozen=True):
    """How to recognise, in a later stream, the transaction or message a checkpoint stands on."""

    lsn: Lsn
    """commit LSN of the transaction, LSN of the message."""
    xid: int = 0
    commit_time_us: int = 0
    message_crc: int | None = None
    """CRC-32 of a non-transactional message's prefix and content; None for a transaction."""


class Progress(msgspec.Struct, frozen=True):
    """How far a sink has come: what a checkpoint record says beside identities."""

    position: Position = NOWHERE
    anchor: Anchor | None = None
    """None until the first event: records `creating` and `born` have no position."""
    last_commit_end_lsn: Lsn = Lsn(0)
    flush_lsn: Lsn = Lsn(0)


class TopicMark(msgspec.Struct, frozen=True):
    """A data topic as it was when the checkpoint was written, to notice a lost tail or a recreated topic."""

    topic: str
    topic_id: str
    high_watermarks: tuple[int, ...]
    """Per partition, as last asked (at most every 10 s); their number is the partition count we hash with."""


class Checkpoint(msgspec.Struct, frozen=True):
    """One record of a checkpoint topic. `state` is its key: creating, born or running; each under its own key."""

    state: str
    system_id: str
    timeline: int
    database: str
    slot: str
    publication: str
    options: str
    """Fingerprint of everything that decides which messages the stream holds (pgoutput options, publication)."""
    instance: str
    """Random id of the process that wrote it."""
    seq: int
    progress: Progress
    topics: tuple[TopicMark, ...] = ()


class Stored(msgspec.Struct, frozen=True):
    """What one checkpoint topic holds: the newest record of each state."""

    creating: Checkpoint | None = None
    born: Checkpoint | None = None
    running: Checkpoint | None = None

    @property
    def newest(self) -> Checkpoint | None:
        """running before born before creating."""
        return self.running or self.born or self.creating
