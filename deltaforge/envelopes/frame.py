"""What stands around a row in a change event: the source block and the envelope's tail.

Within one part of a transaction only the row's LSN (twice) varies, so everything else is formatted once:
`{"before":..,"after":..,` + head + lsn + middle(table) + lsn + tail(op). With a schema in front, the tail closes that
object too. Where transactions are told (tally.py) the tail varies: `closing` writes it for one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.envelopes.jsontext import quoted_name
from deltaforge.errors import ProtocolViolation

if TYPE_CHECKING:
    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.envelopes.plan import Plan
    from deltaforge.envelopes.tally import Tally
    from deltaforge.model import Lsn

VERSION = "3.7.0.Final"
"""The Debezium release whose bytes we write."""


class Origin:
    """The Origin message of a transaction: which server it was first committed on."""

    __slots__ = ("lsn", "name")

    def __init__(self, name: str = "", lsn: int = 0) -> None:
        self.name = name
        self.lsn = lsn

    def json(self) -> str:
        """The last two fields of the source block."""
        if not self.name:
            return '"origin":null,"origin_lsn":null'
        return f'"origin":{quoted_name(self.name)},"origin_lsn":{self.lsn}'


def read_origin(message: bytes) -> Origin:
    """Read an XLogData message that holds an Origin. Raises ProtocolViolation when it is not formed as one."""
    if len(message) < 35 or message.find(b"\0", 34) != len(message) - 1:
        raise ProtocolViolation("an Origin message does not end with its name")
    return Origin(message[34:-1].decode(errors="replace"), int.from_bytes(message[26:34], "big"))


class Frame:
    """The constant text of one part, or of a logical message outside of transactions (`xid` None)."""

    __slots__ = ("_middles", "_source_end", "_stamp", "_tally", "_time", "_txid", "_xid", "head", "now_ms")

    def __init__(
        self,
        spec: EncoderSpec,
        xid: int | None,
        us: int,
        previous_end: Lsn,
        now_ns: int,
        origin: Origin,
        tally: Tally | None = None,
    ) -> None:
        last = f'\\"{int(previous_end)}\\"' if previous_end else "null"
        # A null whose schema has the default "false".
        snapshot = '"false"' if spec.values.null_defaults else "null"
        self.head = (
            f',"source":{{"version":"{VERSION}","connector":"postgresql","name":{quoted_name(spec.topic_prefix)},'
            f'"ts_ms":{us // 1000},"snapshot":{snapshot},"db":{quoted_name(spec.database)},"sequence":"[{last},\\"'
        )
        self._stamp = f'\\"]","ts_us":{us},"ts_ns":{us * 1000},"schema":'
        self._xid = xid
        self._txid = f'"txId":{"null" if xid is None else xid},"lsn":'
        self._source_end = f',"xmin":null,{origin.json()}}}'
        self._tally = tally
        self.now_ms = now_ns // 1_000_000
        self._time = f',"ts_ms":{now_ns // 1_000_000},"ts_us":{now_ns // 1000},"ts_ns":{now_ns}}}'
        if spec.value_schemas:
            self._time += "}"
        self._middles: dict[int, str] = {}

    def middle(self, plan: Plan) -> str:
        """What stands between the two LSNs for a row of this table."""
        found = self._middles.get(id(plan))
        if found is None:
            found = f'{self._stamp}{plan.schema_json},"table":{plan.table_json},{self._txid}'
            self._middles[id(plan)] = found
        return found

    def tail(self, op: str, transaction: str = "null") -> str:
        """What follows the second LSN."""
        return f'{self._source_end},"transaction":{transaction},"op":"{op}"{self._time}'

    def ahead(self, plan: Plan, op: str) -> str:
        """What stands in front of the value of exactly one row."""
        return ""

    def closing(self, plan: Plan, lsn: int, op: str) -> str:
        """What follows the second LSN of exactly one row, which is counted."""
        if self._tally is None or self._xid is None:
            return self.tail(op)
        return self.tail(op, self._tally.place(plan.collection, self._xid, lsn))

    def message_source(self, lsn: int) -> str:
        """The source block of a logical message, with a comma before it."""
        return f'{self.head}{lsn}{self._stamp}"","table":"",{self._txid}{lsn}{self._source_end}'

    def message_place(self, lsn: int) -> str:
        """The JSON of a message's place in its transaction; it is counted."""
        if self._tally is None or self._xid is None:
            return "null"
        return self._tally.place_of_message(self._xid, lsn)
