"""Records of the less common events, written as ordinary code: deletes, updates with an old tuple, truncates.

The generated row code covers the rest with the same bytes; these functions can do every insert and update as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deltaforge.envelopes.fields import UNSENT, Field, read_fields
from deltaforge.errors import ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.envelopes.base import EncoderSpec, Headers
    from deltaforge.envelopes.frame import Frame
    from deltaforge.envelopes.plan import Plan

NEW_KEY = "__debezium.newkey"
OLD_KEY = "__debezium.oldkey"

_INSERT, _UPDATE, _DELETE = b"IUD"
_KEY, _OLD, _NEW = b"KON"


class Record(NamedTuple):
    """One Kafka record."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers | None

    @property
    def nbytes(self) -> int:
        """Sizes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


class Change(NamedTuple):
    """The tuples of one insert, update or delete."""

    kind: int
    old: list[Field] | None
    whole: bool
    """The old tuple is the complete row (REPLICA IDENTITY FULL), not just the identity columns."""
    new: list[Field] | None


def read_change(message: bytes, plan: Plan) -> Change:
    """Read an XLogData message that holds an Insert, Update or Delete.

    Raises ProtocolViolation when the message is not formed as pgoutput forms them.
    """
    kind, mark, at = message[25], message[30:31], 30
    old: list[Field] | None = None
    whole = mark == b"O"
    if mark in (b"K", b"O") and kind != _INSERT:
        old, at = read_fields(message, 31, plan.count)
        mark = message[at : at + 1]
    new: list[Field] | None = None
    if kind != _DELETE:
        if mark != b"N":
            raise ProtocolViolation("a change has no new tuple")
        new, at = read_fields(message, at + 1, plan.count)
        if old is not None:
            _fill_unsent(plan, new, old, whole)
    elif old is None:
        raise ProtocolViolation("a delete has no old tuple")
    if at != len(message):
        raise ProtocolViolation("a change is longer than its tuples")
    return Change(kind, old, whole, new)


def _fill_unsent(plan: Plan, new: list[Field], old: Sequence[Field], whole: bool) -> None:
    for index, field in enumerate(new):
        if field is UNSENT and (whole or plan.relation.columns[index].identity):
            new[index] = old[index]


class Event(NamedTuple):
    """What one record with a value tells."""

    op: str
    before: list[Field] | None
    after: list[Field] | None
    headers: Headers | None = None


def change_records(change: Change, plan: Plan, frame: Frame, spec: EncoderSpec, lsn: int) -> list[Record]:
    """The records of one insert, update or delete.

    Raises a converter's error for a value that has no form, OperatorError for a row that has no topic.
    """
    records = []
    for event in _events(change, plan, spec):
        record = _record(event, plan, frame, lsn)
        records.append(record)
        if event.op == "d" and spec.tombstones:
            records.append(record._replace(value=None))
    return records


def _events(change: Change, plan: Plan, spec: EncoderSpec) -> list[Event]:
    old, new = change.old, change.new
    if new is None:
        return [Event("d", old, None)]
    if old is None:
        return [Event("c" if change.kind == _INSERT else "u", None, new)]
    skipped = spec.skipped_operations
    # To Debezium an identity tuple without the key's columns says that these were null: a change of the key.
    if plan.key(old) == plan.key(new):
        return [] if "u" in skipped else [Event("u", old, new)]
    # Both records are what they say they are: skipped as delete and create, not as parts of an update.
    deleted = Event("d", old, None, [(NEW_KEY, plan.key_header(new))])
    created = Event("c", None, new, [(OLD_KEY, plan.key_header(old))])
    return [event for event in (deleted, created) if event.op not in skipped]


def _record(event: Event, plan: Plan, frame: Frame, lsn: int) -> Record:
    op, before, after, headers = event
    rows = ["null" if fields is None else plan.row(fields) for fields in (before, after)]
    head = f'{frame.ahead(plan, op)}{plan.value_start}{rows[0]},"after":{rows[1]}{frame.head}'
    value = f"{head}{lsn}{frame.middle(plan)}{lsn}{frame.closing(plan, lsn, op)}".encode("latin-1")
    if plan.names is not None:
        return Record(plan.names.topic(op, before, after), plan.names.key(op, before, after), value, headers)
    return Record(plan.topic, plan.own_key(before if after is None else after), value, headers)


def truncate_records(plans: Sequence[Plan], frame: Frame, lsn: int) -> list[Record]:
    """One record without key per truncated table."""
    return [_record(Event("t", None, None), plan, frame, lsn) for plan in plans]


def truncated(message: bytes) -> list[int]:
    """Relation oids of a Truncate. Raises ProtocolViolation when they are not all there."""
    count = int.from_bytes(message[26:30], "big")
    if len(message) != 31 + 4 * count:
        raise ProtocolViolation("a truncate does not hold as many relations as it says")
    return [int.from_bytes(message[at : at + 4], "big") for at in range(31, len(message), 4)]
