"""Debezium's change events (JSON without schemas), straight from pgoutput messages.

Rule 1: Relations apply in stream order, also those before a skipped event; events only count.
Rule 2: a run of plain inserts or updates of one table goes through generated code (rowcode.py), any other event, and
        all where topic or key depend on the row (rownames.py), through changes.py.
Rule 3: a change of the key is a delete of the old key (with tombstone) and an insert of the new one; headers
        `__debezium.newkey` and `__debezium.oldkey` hold the other key, without table identifier.
Rule 4: a value that was not sent (unchanged TOAST) is taken from the old tuple where that has it, else it becomes the
        placeholder. A key tuple ('K') says nothing about columns outside the replica identity.
Rule 5: the Origin message of a transaction counts for all its parts.
Rule 6: with transaction metadata (tally.py) every event takes the ordinary way, and those skipped by position too, for
        their count; what they give is thrown away.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from deltaforge.envelopes.base import POSITION_INDEX, POSITION_LSN, Encoded, EncoderSpec, Headers
from deltaforge.envelopes.changes import Record, change_records, read_change, truncate_records, truncated
from deltaforge.envelopes.frame import Frame, Origin, read_origin
from deltaforge.envelopes.messages import Message, Messages
from deltaforge.envelopes.plan import CONVERSION_ERRORS, Plan
from deltaforge.envelopes.rowcode import Rows, RowWriter
from deltaforge.envelopes.tally import Tally
from deltaforge.errors import DeltaforgeError, ProtocolViolation
from deltaforge.model import Lsn
from deltaforge.runs import parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.model import LogicalMessage, Relation, TransactionPart, TransactionRun

PLANS_KEPT = 4096
"""Table versions whose plans are kept across epochs; one more and all are forgotten."""

EVENTS = frozenset(b"IUDTM")
_RELATION, _TYPE, _ORIGIN, _TRUNCATE, _MESSAGE = b"RYOTM"
_UPDATE, _NEW = b"UN"
_OPERATION = {b"I": "c", b"U": "u", b"D": "d", b"T": "t"}


class Lane(NamedTuple):
    """Where messages with one tag go: generated code, the table's plan, and the operation's letter."""

    rows: Rows
    plan: Plan
    op: str


class DebeziumEncoder:
    """The readable encoder. See the protocol Encoder for what each method promises."""

    name = "python"

    def __init__(self, spec: EncoderSpec) -> None:
        self._spec = spec
        self._plans: dict[int, Plan] = {}
        self._lanes: dict[bytes, Lane] = {}
        self._known: dict[Relation, tuple[Plan, Rows]] = {}
        self._omitted: dict[str, None] = {}
        self._origin = Origin()
        self._messages = Messages(spec)
        self._tally = Tally(spec) if spec.transaction_topic else None
        self._commit_us = self._message_lsn = 0

    @property
    def omitted(self) -> tuple[str, ...]:
        """Columns left out so far, as `schema.table.column`."""
        return tuple(self._omitted)

    def reset(self) -> None:
        """Forget what the last epoch announced."""
        self._plans.clear()
        self._lanes.clear()
        self._origin = Origin()
        self._commit_us = self._message_lsn = 0

    def learn(self, part: TransactionPart) -> None:
        """Take in Relations and the Origin of a part that needs no records."""
        self._begin(part)
        if self._tally is not None and not (part.first_index == 0 and part.committed):
            # The rest of this transaction may be new.
            self._walk(part, part.events, self._work(part, Lsn(0), 0))
            return
        relations = iter(part.relations)
        for message in part.messages:
            if message[25] not in EVENTS:
                self._apply(message, relations)

    def encode(
        self, part: TransactionPart, skip: int, previous_end: Lsn, now_ns: int, *, positions: bool = False
    ) -> Encoded:
        """The records of `part` without its first `skip` events."""
        self._begin(part)
        work = self._work(part, previous_end, now_ns, positions)
        if self._tally is None:
            self._walk(part, skip, work)
            return work.done()
        if part.first_index + skip == 0:
            work.add([self._tally.begin(part)], 0, events=0)
        self._walk(part, skip, work)
        if part.committed:
            end = self._tally.end(part)
            work.add([end], part.first_index + part.events, events=0)
        return work.done()

    def _walk(self, part: TransactionPart, skip: int, work: Work) -> None:
        """Everything in `part`, in order."""
        relations = iter(part.relations)
        messages, at, stop, index = part.messages, 0, len(part.messages), part.first_index
        first = index + skip
        uncounted = self._tally is None
        unseen = work if uncounted else self._work(part, Lsn(0), 0)
        while at < stop:
            message = messages[at]
            if message[25] not in EVENTS:
                self._apply(message, relations)
                at += 1
                continue
            if index >= first and uncounted and (lane := self._lane(message)):
                taken = work.run(lane, messages, at, stop, index, self._origin)
                at += taken
                index += taken
                continue
            if index >= first:
                self._event(message, index, work)
            elif not uncounted:
                self._event(message, index, unseen)
            at += 1
            index += 1

    def _work(self, part: TransactionPart, previous_end: Lsn, now_ns: int, positions: bool = False) -> Work:
        wanted = positions or self._spec.position_headers
        # To Debezium a message outside of transactions ends one.
        previous_end = Lsn(max(previous_end, self._message_lsn))
        return self._empty(part, previous_end, now_ns, wanted)

    def _empty(self, part: TransactionPart, previous_end: Lsn, now_ns: int, positions: bool) -> Work:
        return Work(self._spec, part, previous_end, now_ns, positions, self._tally)

    def encode_run(self, run: TransactionRun, previous_end: Lsn, now_ns: int) -> Encoded:
        """The records of all transactions of `run`."""
        encoded = Encoded([], [], [], [], 0, 0)
        for part in parts(run):
            encoded.extend(self.encode(part, 0, part.previous_end or previous_end, now_ns))
        return encoded

    def encode_message(self, message: LogicalMessage, now_ns: int) -> Encoded:
        """The record of a non-transactional logical message."""
        self._message_lsn = message.lsn
        found = self._messages.wanted(message.message)
        if found is None:
            return Encoded([], [], [], [], 0, 0)
        # Its clock and origin are those of the last transaction before it, as Debezium's.
        frame = Frame(self._spec, None, self._commit_us or now_ns // 1000, message.lsn, now_ns, self._origin)
        record = self._messages.record(found, frame)
        headers = _positions(message.lsn, -1, 1) if self._spec.position_headers else None
        return Encoded([record.topic], [record.key], [record.value], headers or [None], record.nbytes, 1)

    def _begin(self, part: TransactionPart) -> None:
        self._commit_us = part.commit_time_us
        if part.first_index == 0:
            self._origin = Origin()
            if self._tally is not None:
                self._tally.clear()

    def _apply(self, message: bytes, relations: Iterator[Relation]) -> None:
        """Take in a message that is no event."""
        kind = message[25]
        if kind == _RELATION:
            relation = next(relations, None)
            if relation is None or relation.oid != int.from_bytes(message[26:30], "big"):
                raise ProtocolViolation("the Relations beside a part do not match its Relation messages")
            self._announce(relation)
        elif kind == _ORIGIN:
            self._origin = read_origin(message)
        elif kind != _TYPE:
            raise ProtocolViolation(f"a message of kind {chr(kind)!r} stands within a transaction")

    def _announce(self, relation: Relation) -> None:
        found = self._known.get(relation)
        if found is None:
            if len(self._known) >= PLANS_KEPT:
                self._known.clear()
            plan = Plan(relation, self._spec)
            found = self._known[relation] = plan, RowWriter(plan).rows
            for name in plan.omitted if relation.selected else ():
                self._omitted[f"{relation.schema}.{relation.table}.{name}"] = None
        plan, rows = found
        former = self._plans.get(relation.oid)
        self._plans[relation.oid] = plan
        for kind in (b"I", b"U"):
            if former is not None:
                self._lanes.pop(_tag(kind, former), None)
            op = _OPERATION[kind]
            if relation.selected and op not in self._spec.skipped_operations and plan.names is None:
                self._lanes[_tag(kind, plan)] = Lane(rows, plan, op)

    def _lane(self, message: bytes) -> Lane | None:
        return self._lanes.get(message[25:33])

    def _plan(self, oid: int) -> Plan:
        plan = self._plans.get(oid)
        if plan is None:
            raise ProtocolViolation(f"a change names relation {oid}, which no Relation message announced")
        return plan

    def _event(self, message: bytes, index: int, work: Work) -> None:
        """An event outside the common run."""
        kind = message[25]
        if kind == _MESSAGE:
            found = self._messages.wanted(message)
            if found is not None:
                work.message(self._messages, found, index, self._origin)
            return
        skipped = _OPERATION[message[25:26]] in self._spec.skipped_operations
        # Not so an update with an old tuple: it may turn out to be a delete and a create.
        if skipped and (kind != _UPDATE or message[30] == _NEW):
            return
        if kind == _TRUNCATE:
            plans = [self._plan(oid) for oid in truncated(message)]
            work.truncate([plan for plan in plans if plan.relation.selected], message, index, self._origin)
            return
        plan = self._plan(int.from_bytes(message[26:30], "big"))
        if plan.relation.selected:
            work.change(plan, message, index, self._origin)


def _tag(kind: bytes, plan: Plan) -> bytes:
    """Bytes 25 to 32 of a plain row of this table."""
    return kind + plan.relation.oid.to_bytes(4, "big") + b"N" + plan.count.to_bytes(2, "big")


class Work:
    """The records of one part, growing."""

    def __init__(
        self,
        spec: EncoderSpec,
        part: TransactionPart,
        previous_end: Lsn,
        now_ns: int,
        positions: bool,
        tally: Tally | None,
    ) -> None:
        self._spec = spec
        self._tally = tally
        self.positions_wanted = positions
        self._part = part
        self.previous_end = previous_end
        self._now_ns = now_ns
        self.frame: Frame | None = None
        """The constant text, from the first event on."""
        self.encoded = Encoded([], [], [], [], 0, 0)

    def _framed(self, origin: Origin) -> Frame:
        # Not before the first event: the Origin message comes ahead of it.
        self.frame = self.frame_for(origin)
        return self.frame

    def frame_for(self, origin: Origin) -> Frame:
        """The frame of the events so far, or what the first event's would be."""
        if self.frame is not None:
            return self.frame
        part = self._part
        return Frame(self._spec, part.xid, part.commit_time_us, self.previous_end, self._now_ns, origin, self._tally)

    def run(self, lane: Lane, messages: list[bytes], at: int, stop: int, index: int, origin: Origin) -> int:
        """Encode plain rows from `messages[at]` on for as long as they have the same tag; return how many."""
        rows, plan, op = lane
        frame, encoded = self._framed(origin), self.encoded
        keys, values = encoded.keys, encoded.values
        before = len(values)
        failed = False
        end = at
        try:
            end = rows(
                messages, at, stop, messages[at][25:33], frame.head, frame.middle(plan), frame.tail(op),
                keys.append, values.append,
            )  # fmt: skip
        except CONVERSION_ERRORS:
            failed = True
        if failed:
            raise _blamed(plan, messages[at + len(values) - before])
        taken = end - at
        encoded.topics += [plan.topic] * taken
        encoded.headers += self._around(self._positions(index, taken))
        encoded.events += taken
        return taken

    def change(self, plan: Plan, message: bytes, index: int, origin: Origin) -> None:
        """Encode one insert, update or delete of any form."""
        lsn = int.from_bytes(message[1:9], "big")
        frame = self._framed(origin)
        change = read_change(message, plan)
        records = None
        with suppress(*CONVERSION_ERRORS):
            records = change_records(change, plan, frame, self._spec, lsn)
        if records is None:
            raise _blamed(plan, message)
        self.add(records, index, self._spec.context_headers, events=1 if records else 0)

    def truncate(self, plans: list[Plan], message: bytes, index: int, origin: Origin) -> None:
        """Encode a truncate of one or more tables."""
        lsn = int.from_bytes(message[1:9], "big")
        self.add(truncate_records(plans, self._framed(origin), lsn), index, self._spec.context_headers)

    def message(self, messages: Messages, message: Message, index: int, origin: Origin) -> None:
        """Encode a logical message."""
        self.add([messages.record(message, self._framed(origin))], index)

    def add(
        self, records: list[Record], index: int, context: tuple[tuple[str, bytes], ...] = (), events: int = 1
    ) -> None:
        """Append the records of one event, or of no event at all. `context`: the context headers of row changes."""
        encoded = self.encoded
        position = [*context, *(self._positions(index, 1)[0] or ())]
        for record in records:
            encoded.topics.append(record.topic)
            encoded.keys.append(record.key)
            encoded.values.append(record.value)
            encoded.headers.append([*(record.headers or ()), *position] or None)
        encoded.events += events

    def _around(self, positions: list[Headers | None]) -> list[Headers | None]:
        """The headers of plain rows: context before position."""
        context = self._spec.context_headers
        return [[*context, *(position or ())] for position in positions] if context else positions

    def _positions(self, index: int, count: int) -> list[Headers | None]:
        if not self.positions_wanted:
            return [None] * count
        return _positions(self._part.commit_lsn, index, count)

    def done(self) -> Encoded:
        """The records so far, weighed."""
        encoded = self.encoded
        encoded.nbytes = sum(map(len, filter(None, encoded.keys))) + sum(map(len, filter(None, encoded.values)))
        return encoded


def _positions(lsn: Lsn, index: int, count: int) -> list[Headers | None]:
    """The position headers of `count` events from `index` on."""
    place = (POSITION_LSN, str(lsn).encode())
    return [[place, (POSITION_INDEX, b"%d" % number)] for number in range(index, index + count)]


def _blamed(plan: Plan, message: bytes) -> DeltaforgeError:
    """Why a row could not be written. Called outside of the handler: the converter's error quotes the value."""
    lsn = Lsn(int.from_bytes(message[1:9], "big"))
    change = read_change(message, plan)
    for fields in (change.new, change.old):
        error = plan.blame(fields, lsn) if fields is not None else None
        if error is not None:
            return error
    return ProtocolViolation(f"the change at {lsn} cannot be read")
