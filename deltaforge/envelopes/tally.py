"""Transaction metadata: the place of each record in its transaction, and the records BEGIN and END.

Rule 1: what counts is a record with a value, not a tombstone: a change of the key counts twice, a truncate once for
        each of its tables. What is filtered does not count.
Rule 2: BEGIN goes before the first event, END with the COMMIT, also around a transaction that gives no record.
Rule 3: events that are durable already count again after a restart, so that the rest gets the numbers it would have
        had. One Tally lives as long as its encoder; a transaction's first part clears it.
Rule 4: an id is `xid:lsn`. The LSN is that of the row or message itself, in END that of the end of the COMMIT, in BEGIN
        that of the first event, 0 before an Origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.envelopes.changes import Record
from deltaforge.envelopes.javahash import FIRST_SIZE, hash_map_order, hash_map_size
from deltaforge.envelopes.jsontext import quoted_name
from deltaforge.envelopes.recordschemas import TRANSACTION_KEY, TRANSACTION_VALUE, with_schema

if TYPE_CHECKING:
    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.model import TransactionPart

_MESSAGE = "io.debezium.connector.postgresql.LogicalDecodingMessageMonitor$LogicalDecodingMessageId@"
_MESSAGE_HASH = 0x3B81F5BE
"""Debezium counts every logical message as a data collection of its own, whose name ends in an address of the Java
machine: another in every run. Here they count up from the one in the recordings."""
_EVENTS, _ORIGIN = b"IUDTM", ord("O")


class Tally:
    """Counts of the transaction the stream is in."""

    def __init__(self, spec: EncoderSpec) -> None:
        self._topic = spec.transaction_topic
        self._key_schema = TRANSACTION_KEY if spec.key_schemas else ""
        self._value_schema = TRANSACTION_VALUE if spec.value_schemas else ""
        self._buckets = FIRST_SIZE
        """Of Debezium's map of collections, which is cleared between transactions and never becomes smaller."""
        self.clear()

    def clear(self) -> None:
        """Another transaction begins."""
        self._total = self._messages = 0
        self._collections: dict[str, int] = {}

    def place(self, collection: str, xid: int, lsn: int) -> str:
        """Count a record of `collection` (`schema.table`); the JSON of its place in the transaction."""
        self._total += 1
        order = self._collections[collection] = self._collections.get(collection, 0) + 1
        return f'{{"id":"{xid}:{lsn}","total_order":{self._total},"data_collection_order":{order}}}'

    def place_of_message(self, xid: int, lsn: int) -> str:
        """Count a logical message; the JSON of its place in the transaction."""
        self._messages += 1
        return self.place(f"{_MESSAGE}{_MESSAGE_HASH - 1 + self._messages:x}", xid, lsn)

    def begin(self, part: TransactionPart) -> Record:
        """The record BEGIN of the transaction whose first part is `part`."""
        if part.messages and part.messages[0][25] == _ORIGIN:
            # A BEGIN with an Origin behind it comes without a position.
            return self._record(part, "BEGIN", 0, "null", "null")
        lsn = next((int.from_bytes(m[1:9], "big") for m in part.messages if m[25] in _EVENTS), int(part.commit_lsn))
        return self._record(part, "BEGIN", lsn, "null", "null")

    def end(self, part: TransactionPart) -> Record:
        """The record END of the transaction whose last part is `part`."""
        collections = ",".join(
            f'{{"data_collection":{quoted_name(name)},"event_count":{self._collections[name]}}}'
            for name in hash_map_order(self._collections, self._buckets)
        )
        self._buckets = hash_map_size(len(self._collections), self._buckets)
        return self._record(part, "END", part.end_lsn, str(self._total), f"[{collections}]")

    def _record(self, part: TransactionPart, status: str, lsn: int, events: str, collections: str) -> Record:
        identity = f'"id":"{part.xid}:{int(lsn)}"'
        value = (
            f'{{"status":"{status}",{identity},"event_count":{events},"data_collections":{collections},'
            f'"ts_ms":{part.commit_time_us // 1000}}}'
        )
        key = with_schema(self._key_schema, f"{{{identity}}}")
        return Record(self._topic, key.encode(), with_schema(self._value_schema, value).encode("latin-1"), None)
