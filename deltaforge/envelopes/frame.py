"""What stands around a row in a change event: the source block and the envelope's tail.

Within one part of a transaction only the row's LSN (twice) varies, so everything else is formatted once:
`{"before":..,"after":..,` + head + lsn + middle(table) + lsn + tail(op). With a schema in front, the tail closes that
object too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.envelopes.jsontext import quoted_name

if TYPE_CHECKING:
    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.envelopes.plan import Plan
    from deltaforge.model import Lsn, TransactionPart

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


class Frame:
    """The constant text of one part."""

    __slots__ = ("_middles", "_origin", "_stamp", "_time", "_xid", "head")

    def __init__(
        self, spec: EncoderSpec, part: TransactionPart, previous_end: Lsn, now_ns: int, origin: Origin
    ) -> None:
        us = part.commit_time_us
        last = f'\\"{int(previous_end)}\\"' if previous_end else "null"
        self.head = (
            f',"source":{{"version":"{VERSION}","connector":"postgresql","name":{quoted_name(spec.topic_prefix)},'
            f'"ts_ms":{us // 1000},"snapshot":"false","db":{quoted_name(spec.database)},"sequence":"[{last},\\"'
        )
        self._stamp = f'\\"]","ts_us":{us},"ts_ns":{us * 1000},"schema":'
        self._xid = f'"txId":{part.xid},"lsn":'
        self._origin = f',"xmin":null,{origin.json()}}},"transaction":null,"op":'
        self._time = f',"ts_ms":{now_ns // 1_000_000},"ts_us":{now_ns // 1000},"ts_ns":{now_ns}}}'
        if spec.value_schemas:
            self._time += "}"
        self._middles: dict[int, str] = {}

    def middle(self, plan: Plan) -> str:
        """What stands between the two LSNs for a row of this table."""
        found = self._middles.get(id(plan))
        if found is None:
            found = f'{self._stamp}{plan.schema_json},"table":{plan.table_json},{self._xid}'
            self._middles[id(plan)] = found
        return found

    def tail(self, op: str) -> str:
        """What follows the second LSN."""
        return f'{self._origin}"{op}"{self._time}'
