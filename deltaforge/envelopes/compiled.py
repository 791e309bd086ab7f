"""The Debezium encoder with its rows written by compiled code (_compiled.pyx).

Rule 1: compiled code takes inserts, updates and deletes that are formed as they should be; every other message goes
        the inherited way, one by one, so errors and rare events are those of the Python encoder.
Rule 2: a value is written in C where its converter is one of `_CODES` or says how to write it inline; any other
        converter is called. So a new type needs nothing here to be right.
Rule 3: what changes an event by more than its row (transaction metadata, CloudEvents, context headers), and a topic or
        key that depends on the row, is not compiled: such an encoder is a DebeziumEncoder through and through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from deltaforge.envelopes import numbers, times
from deltaforge.envelopes._compiled import CODES, Records, Table, Writer
from deltaforge.envelopes.base import POSITION_INDEX, POSITION_LSN, Encoded
from deltaforge.envelopes.debezium import EVENTS, DebeziumEncoder, Work
from deltaforge.envelopes.frame import Origin
from deltaforge.envelopes.options import ValueOptions
from deltaforge.envelopes.rowcode import memo_of
from deltaforge.envelopes.template import Template
from deltaforge.envelopes.topics import varies_by_row
from deltaforge.envelopes.values import rendering
from deltaforge.model import Lsn, PgType
from deltaforge.runs import parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.envelopes.frame import Frame
    from deltaforge.envelopes.plan import Plan, PlanColumn
    from deltaforge.model import Relation, TransactionPart, TransactionRun

_CODES: dict[Callable[[str], str], str] = {
    numbers.decimal: "decimal",
    numbers.variable_decimal: "variable",
    numbers.double: "float",
    numbers.real: "real",
    times.date: "date",
    times.time_us: "time_us",
    times.time_ms: "time_ms",
    times.timestamp_us: "timestamp_us",
    times.timestamp_ms: "timestamp_ms",
    times.zoned_six: "zoned",
}
_BYTEA = rendering(PgType(17, "bytea"), -1, ValueOptions())
if _BYTEA is not None:
    _CODES[_BYTEA.convert] = "bytea"
_COMMIT, _RELATION = b"CR"
_FAR_US = 2**63
"""A time that no writer can be given."""
_BOOL = {"t": "true", "f": "false"}


class CompiledEncoder(DebeziumEncoder):
    """The fast encoder. See the protocol Encoder for what each method promises."""

    name = "compiled"

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__(spec)
        self._template = template = Template(spec)
        self._writer = Writer(
            template.known, template.unknown, spec.skipped_operations, spec.tombstones, POSITION_LSN, POSITION_INDEX
        )
        self._tables: dict[Plan, Table | None] = {}

    def reset(self) -> None:
        """Forget what the last epoch announced."""
        super().reset()
        self._writer.forget()

    def encode_run(self, run: TransactionRun, previous_end: Lsn, now_ns: int) -> Encoded:
        """The records of all transactions of `run`."""
        encoded = Encoded([], [], [], [], 0, 0)
        to = Records(encoded.topics, encoded.keys, encoded.values, encoded.headers)
        writer, positions = self._writer, self._spec.position_headers
        messages, at, told, last = run.messages, 0, 0, int(run.previous_end or previous_end)
        while True:
            start = at
            writer.begin(*_tails(self._template.frame(now_ns)))
            at = writer.run(messages, at, last, previous_end, self._message_lsn, positions, to)
            if at > start:
                # Of the transaction before, which a logical message behind it has too.
                self._origin = Origin()
            encoded.events += writer.events
            encoded.nbytes += writer.nbytes
            if at == len(messages):
                break
            # A transaction with something rare in it: as a part of its own.
            part, at = _part_at(run, at, told, Lsn(writer.previous))
            told += len(part.relations)
            encoded.extend(self.encode(part, 0, part.previous_end or previous_end, now_ns))
            last = int(part.end_lsn or previous_end)
        self._commit_us = run.commit_time_us
        return encoded

    def _walk(self, part: TransactionPart, skip: int, work: Work) -> None:
        """Everything in `part`, in order."""
        relations = iter(part.relations)
        messages, at, stop, index = part.messages, 0, len(part.messages), part.first_index
        first = index + skip
        while at < stop:
            if index >= first:
                passed = self._rows(part, at, index, work)
                at, index = at + passed, index + passed
                if at == stop:
                    break
            message = messages[at]
            if message[25] not in EVENTS:
                self._apply(message, relations)
                at += 1
                continue
            if index >= first:
                if lane := self._lane(message):
                    work.run(lane, messages, at, at + 1, index, self._origin)
                else:
                    self._event(message, index, work)
            at, index = at + 1, index + 1

    def _rows(self, part: TransactionPart, at: int, index: int, work: Work) -> int:
        """Let the compiled code write rows from `part.messages[at]` on; how many events it took."""
        writer, encoded, frame = self._writer, work.encoded, work.frame_for(self._origin)
        writer.begin(*_tails(frame))
        positions = int(part.commit_lsn) if work.positions_wanted else 0
        if (work.positions_wanted and not positions) or abs(part.commit_time_us) >= _FAR_US:
            return 0
        if not writer.open(part.xid, part.commit_time_us, work.previous_end, index, positions):
            return 0
        to = Records(encoded.topics, encoded.keys, encoded.values, encoded.headers)
        passed = writer.rows(part.messages, at, to) - at
        encoded.events += writer.events
        if writer.events:
            work.frame = frame
        return passed

    def _announce(self, relation: Relation) -> None:
        super()._announce(relation)
        plan = self._plans[relation.oid]
        if plan not in self._tables:
            if len(self._tables) >= len(self._known) + 64:
                self._tables.clear()
            self._tables[plan] = _table(plan, self._template)
        self._writer.announce(relation.oid, self._tables[plan])


def compilable(spec: EncoderSpec) -> bool:
    """Can rows of this spec be written by compiled code? See rule 3."""
    if spec.transaction_topic or spec.cloudevents_type_prefix or spec.context_headers:
        return False
    if spec.key or varies_by_row(spec.topic):
        return False
    try:
        Template(spec)
    except ValueError:
        # A name of the configuration holds one of the template's numbers.
        return False
    return True


def _tails(frame: Frame) -> tuple[bytes, bytes, bytes]:
    """What closes an insert, an update and a delete."""
    return frame.tail("c").encode("latin-1"), frame.tail("u").encode("latin-1"), frame.tail("d").encode("latin-1")


def _part_at(run: TransactionRun, at: int, told: int, previous_end: Lsn) -> tuple[TransactionPart, int]:
    """The transaction whose BEGIN is `run.messages[at]`, after `told` Relations, and the index after its COMMIT."""
    stop = at + 1
    while run.messages[stop - 1][25] != _COMMIT:
        stop += 1
    messages = run.messages[at:stop]
    relations = run.relations[told : told + sum(message[25] == _RELATION for message in messages)]
    alone = replace(run, messages=messages, relations=relations, previous_end=previous_end)
    return parts(alone)[0], stop


def _table(plan: Plan, template: Template) -> Table | None:
    """What the compiled code has to know of a table; None when it cannot write them."""
    shown = {column.index: number for number, column in enumerate(plan.columns)}
    if any(column not in plan.columns for column in plan.key_columns) or plan.keyed != bool(plan.key_columns):
        return None
    try:
        middle = template.middle(plan)
    except ValueError:
        return None
    columns = []
    for number, column in enumerate(plan.columns):
        label = ("," if number else "{") + column.label
        code, convert = _code(column)
        texts = (label, label + column.null, label + column.rendering.unavailable)
        wire = [text.encode("latin-1") for text in texts]
        columns.append((column.index, CODES[code], convert, wire[0], wire[1], wire[2]))
    key = [
        (shown[column.index], (("," if number else "") + column.label).encode("latin-1"))
        for number, column in enumerate(plan.key_columns)
    ]
    return Table(
        plan.topic,
        plan.relation.selected,
        [column.identity for column in plan.relation.columns],
        columns,
        key,
        (plan.key_start.encode("latin-1"), plan.key_end.encode("latin-1"), plan.value_start.encode("latin-1")),
        middle,
    )


def _code(column: PlanColumn) -> tuple[str, Callable[[str], str] | Mapping[str, str]]:
    """How the compiled code writes a column, and what it calls for a value it leaves alone."""
    rendering = column.rendering
    convert = rendering.convert
    if rendering.inline in ("raw", "quoted", "text"):
        return rendering.inline, convert
    if getattr(convert, "__self__", None) == _BOOL:
        return "bool", convert
    code = _CODES.get(convert, "call")
    return code, memo_of(convert) if rendering.inline == "memo" else convert
