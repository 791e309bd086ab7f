r"""CloudEvents 1.0 in JSON, structured mode: Debezium's rows, keys and topics with another text around the rows.

Rule 1: `data` is `{"before":..,"after":..,"source":{..},"op":".."}`: members of the Debezium value, in its order and
        with its bytes. What only this run knows (when a record was written) is left out, so that a change that is sent
        again after a crash says the same.
Rule 2: an id is the change's position, as position headers have it: `16/B374D848:0`. Of a change that gives several
        events (a change of the key, a truncate of several tables) the later ones have `.1`, `.2` behind it. Together
        with `source` it is unique, which the specification demands.
Rule 3: names of attributes and of `type` are those of vnvo/deltaforge. A tombstone is no event: it has no content type.
Rule 4: values of attributes keep to the specification whatever names tables have: `source` is percent-encoded, and in
        `subject` a character that no attribute may have becomes `_`.
Rule 5: generated code for common rows is Debezium's; the attributes are put in front of what it wrote.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote

from msgspec.structs import replace

from deltaforge.envelopes.debezium import DebeziumEncoder, Work
from deltaforge.envelopes.frame import Frame
from deltaforge.envelopes.jsontext import quoted_name

if TYPE_CHECKING:
    from deltaforge.envelopes.base import EncoderSpec, Headers
    from deltaforge.envelopes.changes import Record
    from deltaforge.envelopes.debezium import Lane
    from deltaforge.envelopes.frame import Origin
    from deltaforge.envelopes.plan import Plan
    from deltaforge.model import Lsn, TransactionPart

CONTENT_TYPE: Final = ("content-type", b"application/cloudevents+json; charset=UTF-8")
"""The header by which Kafka's protocol binding knows an event in structured mode."""

_HAPPENED = {"c": "created", "u": "updated", "d": "deleted", "t": "truncated"}
_EPOCH = datetime(1970, 1, 1)
_PLANES = "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17))
_DISALLOWED = re.compile(f"[\0-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{_PLANES}]")
"""What CloudEvents' type String has not: control characters, lone surrogates, noncharacters."""
_TABLES_KEPT = 4096


class CloudEventsEncoder(DebeziumEncoder):
    """Debezium's encoder with other text around its rows. See the protocol Encoder for what each method promises."""

    def __init__(self, spec: EncoderSpec) -> None:
        # The configuration refuses these: they would be records that are no events, and text in the midst of one.
        super().__init__(replace(spec, message_topic="", transaction_topic="", value_schemas=False))

    def _empty(self, part: TransactionPart, previous_end: Lsn, now_ns: int, positions: bool) -> Work:
        return CloudWork(self._spec, part, previous_end, now_ns, positions, None)


class CloudFrame(Frame):
    """The constant text of one part."""

    __slots__ = ("_around", "_index", "_lsn", "_prefix", "_records", "_time_json", "_type_prefix")

    def __init__(
        self, spec: EncoderSpec, part: TransactionPart, previous_end: Lsn, now_ns: int, origin: Origin
    ) -> None:
        super().__init__(spec, part.xid, part.commit_time_us, previous_end, now_ns, origin)
        self._lsn = str(part.commit_lsn)
        self._prefix, self._type_prefix = spec.topic_prefix, spec.cloudevents_type_prefix
        self._time_json = _time(part.commit_time_us)
        self._around: dict[tuple[Plan, str], tuple[str, str]] = {}
        self._index = self._records = 0

    def around(self, plan: Plan, op: str) -> tuple[str, str]:
        """What stands before the number of a change in its transaction, and between that and the change itself."""
        found = self._around.get((plan, op))
        if found is None:
            kind = quoted_name(f"{self._type_prefix}.{_HAPPENED[op]}")
            source, subject = _names(self._prefix, plan.collection)
            found = self._around[plan, op] = (
                f'{{"specversion":"1.0","id":"{self._lsn}:',
                f'","source":{source},"type":{kind}{self._time_json},"datacontenttype":"application/json",'
                f'"subject":{subject},"data":',
            )
        return found

    def begin(self, index: int) -> None:
        """The records from now on are of the event with this number."""
        self._index, self._records = index, 0

    def ahead(self, plan: Plan, op: str) -> str:
        """The attributes of exactly one record, which is counted."""
        start, rest = self.around(plan, op)
        later = f".{self._records}" if self._records else ""
        self._records += 1
        return f"{start}{self._index}{later}{rest}"

    def tail(self, op: str, transaction: str = "null") -> str:
        """What follows the second LSN: the ends of `source`, `data` and the event."""
        return f'{self._source_end},"op":"{op}"}}}}'


class CloudWork(Work):
    """The records of one part, growing."""

    def frame_for(self, origin: Origin) -> CloudFrame:
        """The frame of the events so far, or what the first event's would be."""
        if isinstance(self.frame, CloudFrame):
            return self.frame
        return CloudFrame(self._spec, self._part, self.previous_end, self._now_ns, origin)

    def run(self, lane: Lane, messages: list[bytes], at: int, stop: int, index: int, origin: Origin) -> int:
        """Encode plain rows: Debezium's code writes `data`, then each gets its attributes."""
        values = self.encoded.values
        first = len(values)
        taken = super().run(lane, messages, at, stop, index, origin)
        start, rest = (text.encode("latin-1") for text in self.frame_for(origin).around(lane.plan, lane.op))
        rows = enumerate(cast("list[bytes]", values[first:]), index)
        values[first:] = [b"%b%d%b%b" % (start, number, rest, row) for number, row in rows]
        return taken

    def change(self, plan: Plan, message: bytes, index: int, origin: Origin) -> None:
        """Encode one insert, update or delete of any form."""
        self._begin(index, origin)
        super().change(plan, message, index, origin)

    def truncate(self, plans: list[Plan], message: bytes, index: int, origin: Origin) -> None:
        """Encode a truncate of one or more tables."""
        self._begin(index, origin)
        super().truncate(plans, message, index, origin)

    def _begin(self, index: int, origin: Origin) -> None:
        self.frame = frame = self.frame_for(origin)
        frame.begin(index)

    def add(
        self, records: list[Record], index: int, context: tuple[tuple[str, bytes], ...] = (), events: int = 1
    ) -> None:
        """Append the records of one event."""
        if self._spec.content_type_header:
            records = [
                record if record.value is None else record._replace(headers=[CONTENT_TYPE, *(record.headers or ())])
                for record in records
            ]
        super().add(records, index, context, events)

    def _around(self, positions: list[Headers | None]) -> list[Headers | None]:
        around = super()._around(positions)
        if not self._spec.content_type_header:
            return around
        # Headers are only read from here on, so rows may share a list.
        shared: Headers = [CONTENT_TYPE]
        return [[CONTENT_TYPE, *headers] if headers else shared for headers in around]


def _time(us: int) -> str:
    """The attribute `time`, with a comma before it; none for a clock outside of the years that RFC 3339 has."""
    try:
        moment = _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        return ""
    return f',"time":"{moment.isoformat(timespec="microseconds")}Z"'


@lru_cache(_TABLES_KEPT)
def _names(prefix: str, collection: str) -> tuple[str, str]:
    """`source` and `subject` of a table, as JSON."""
    source = f"deltaforge/{quote(prefix, safe='')}/{quote(collection, safe='')}"
    return quoted_name(source), quoted_name(_DISALLOWED.sub("_", collection))
