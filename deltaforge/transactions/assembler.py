"""Group the messages of one replication stream into parts of committed transactions. Pure.

PostgreSQL sends only committed transactions, one after another, and BEGIN already carries the commit LSN, the commit
time and the xid. So nothing is buffered until the COMMIT: what one chunk holds of a transaction becomes a part.

Rule 1: state changes only in `reset` and `feed`; one Assembler lives as long as its actor, its state one epoch.
Rule 2: nothing is dropped by position; only the sink's door skips.
Rule 3: the index of an event counts rows, truncates and transactional messages, filtered later or not; Relation, Type
        and Origin messages depend on the connection and are not counted.
Rule 4: of keepalives in a row only the last becomes a Watermark, and none inside a transaction: `prev` and `end` count
        messages, so nothing is missed by it.
Rule 5: whole transactions that follow each other within a chunk become one TransactionRun.
Rule 6: what may be confirmed is said twice by the protocol and has to be the same both times: TCP's checksum lets some
        damage through, and PostgreSQL forgets what is confirmed.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import TYPE_CHECKING

from deltaforge.errors import ProtocolViolation
from deltaforge.model import Item, LogicalMessage, Lsn, Relation, Segment, TransactionPart, WalChunk, Watermark
from deltaforge.runs import Whole, closing, find_rows, find_whole, make_run

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970-01-01."""

_XLOG, _KEEPALIVE, _HEADER = 0x77, 0x6B, 25
_BEGIN, _COMMIT, _RELATION, _MESSAGE = b"BCRM"
_UNCOUNTED = frozenset(b"RYO")
_begin = struct.Struct(">QqI").unpack_from
_u64 = struct.Struct(">Q").unpack_from


class _Open:
    """The transaction the stream is in, and what of it has not been handed on yet."""

    __slots__ = ("commit_lsn", "commit_time_us", "events", "first", "messages", "nbytes", "relations", "xid")

    def __init__(self, message: bytes) -> None:
        commit_lsn, commit_time, self.xid = _begin(message, _HEADER + 1)
        self.commit_lsn, self.commit_time_us = Lsn(commit_lsn), commit_time + POSTGRES_EPOCH_US
        self.first = 0
        self.clear(0)
        self.nbytes = len(message)

    def clear(self, first: int) -> None:
        self.first, self.events, self.nbytes = first, 0, 0
        self.messages: list[bytes] = []
        self.relations: list[Relation] = []


class Assembler:
    """Turns WalChunks into Segments."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A new epoch begins: forget the open transaction."""
        self._open: _Open | None = None
        self._previous_end = Lsn(0)
        self._end = 0

    def follows(self, chunk: WalChunk) -> bool:
        """Whether `chunk` comes right after the last one fed in this epoch."""
        return chunk.prev == self._end

    def feed(self, chunk: WalChunk) -> Segment:
        """Take one chunk; return what it holds, in order.

        Raises:
          ProtocolViolation: a change outside a transaction, nested transactions, an unknown or cut message.
        """
        items: list[Item] = []
        relations = iter(chunk.relations)
        try:
            self._messages(chunk.messages, relations, items)
        except (IndexError, struct.error, StopIteration) as error:
            raise ProtocolViolation(f"a replication message is cut short ({type(error).__name__})") from None
        if self._open is not None and self._open.events:
            items.append(self._part(self._open, Lsn(0)))
        elif self._open is not None:
            # A BEGIN at the end of a chunk is given back with this segment: if it kept its room until its first row
            # is there, a row larger than the whole budget would wait for it for ever.
            self._open.nbytes = 0
        self._end = chunk.end
        return Segment(chunk.epoch, chunk.prev, chunk.end, items, chunk.nbytes)

    def _messages(self, messages: list[bytes], relations: Iterator[Relation], items: list[Item]) -> None:
        at, count, single = 0, len(messages), 0
        while at < count:
            if self._open is None and at >= single:
                found = Whole._make(find_whole(messages, at, count))
                # What ends the run is looked at message by message, to its end: it is not looked for again there.
                single = found.stop + 1
                if found.transactions > 1:
                    own = tuple(islice(relations, found.relations))
                    items.append(make_run(messages, at, found, own, self._previous_end))
                    self._previous_end = Lsn(found.end_lsn)
                    at = found.stop
                    continue
            elif self._open is not None:
                stop, nbytes = find_rows(messages, at)
                if stop > at:
                    self._open.messages += messages[at:stop]
                    self._open.events += stop - at
                    self._open.nbytes += nbytes
                    at = stop
                    continue
            self._rare(messages[at], relations, items)
            at += 1

    def _rare(self, message: bytes, relations: Iterator[Relation], items: list[Item]) -> None:
        """Everything but a row of an open transaction."""
        if message[0] == _KEEPALIVE:
            self._keepalive(Lsn(_u64(message, 1)[0]), items)
            return
        if message[0] != _XLOG:
            raise ProtocolViolation(f"unknown replication message {message[:1]!r}")
        tag, open_ = message[_HEADER], self._open
        if tag == _BEGIN:
            if open_ is not None:
                raise ProtocolViolation(f"BEGIN inside the transaction that commits at {open_.commit_lsn}")
            self._open = _Open(message)
        elif tag == _MESSAGE and not message[_HEADER + 1] & 1:
            self._message(message, items)
        elif open_ is None:
            raise ProtocolViolation(f"message {chr(tag)!r} outside a transaction")
        elif tag == _COMMIT:
            self._commit(message, open_, items)
        elif tag in _UNCOUNTED:
            if tag == _RELATION:
                open_.relations.append(next(relations))
            open_.messages.append(message)
            open_.nbytes += len(message)
        elif tag == _MESSAGE:
            open_.messages.append(message)
            open_.events += 1
            open_.nbytes += len(message)
        else:
            raise ProtocolViolation(f"unknown pgoutput message {chr(tag)!r}")

    def _keepalive(self, lsn: Lsn, items: list[Item]) -> None:
        if self._open is not None:
            return
        if items and isinstance(items[-1], Watermark):
            items[-1] = Watermark(Lsn(max(lsn, items[-1].lsn)))
        else:
            items.append(Watermark(lsn))

    def _message(self, message: bytes, items: list[Item]) -> None:
        if self._open is not None:
            raise ProtocolViolation("a non-transactional message inside a transaction")
        lsn, start = Lsn(_u64(message, _HEADER + 2)[0]), Lsn(_u64(message, 1)[0])
        if start != lsn:
            raise ProtocolViolation(f"a logical message at {lsn} came in a frame that says {start}")
        items.append(LogicalMessage(lsn, message, self._previous_end, len(message)))

    def _commit(self, message: bytes, open_: _Open, items: list[Item]) -> None:
        found = closing(message)
        at, end_lsn = Lsn(found.commit_lsn), Lsn(found.end_lsn)
        if at != open_.commit_lsn:
            raise ProtocolViolation(f"COMMIT at {at} ends a transaction announced for {open_.commit_lsn}")
        if found.commit_time + POSTGRES_EPOCH_US != open_.commit_time_us:
            raise ProtocolViolation(f"COMMIT at {at} has another time than its BEGIN")
        if not found.start == found.wal_end == end_lsn:
            raise ProtocolViolation(
                f"COMMIT at {at} ends at {end_lsn}, but came in a frame that says {Lsn(found.start)} and "
                f"{Lsn(found.wal_end)}"
            )
        open_.nbytes += len(message)
        items.append(self._part(open_, end_lsn))
        self._previous_end = end_lsn
        self._open = None

    def _part(self, open_: _Open, end_lsn: Lsn) -> TransactionPart:
        part = TransactionPart(
            open_.xid,
            open_.commit_lsn,
            open_.commit_time_us,
            open_.first,
            open_.events,
            open_.messages,
            tuple(open_.relations),
            end_lsn,
            self._previous_end,
            open_.nbytes,
        )
        open_.clear(open_.first + open_.events)
        return part


def split(part: TransactionPart, events: int) -> tuple[TransactionPart, TransactionPart]:
    """Cut `part` after its first `events` events (0 < events < part.events). The COMMIT goes with the second piece."""
    seen = relations = nbytes = at = 0
    for message in part.messages:
        tag = message[_HEADER]
        if tag in _UNCOUNTED:
            relations += tag == _RELATION
        elif seen == events:
            break
        else:
            seen += 1
        nbytes += len(message)
        at += 1
    head = TransactionPart(
        part.xid, part.commit_lsn, part.commit_time_us, part.first_index, events, part.messages[:at],
        part.relations[:relations], Lsn(0), part.previous_end, nbytes,
    )  # fmt: skip
    tail = TransactionPart(
        part.xid, part.commit_lsn, part.commit_time_us, part.first_index + events, part.events - events,
        part.messages[at:], part.relations[relations:], part.end_lsn, part.previous_end, part.nbytes - nbytes,
    )  # fmt: skip
    return head, tail
