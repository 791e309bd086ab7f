"""What every envelope offers to a sink, and the seam where a compiled encoder takes the place of the Python one.

Who calls: a sink's actor, once per part of a transaction, through the Encoder that `pipeline` gave it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from deltaforge.envelopes.options import ValueOptions
from deltaforge.envelopes.topics import names_table
from deltaforge.twin import compiled_module

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deltaforge.model import LogicalMessage, Lsn, TransactionPart, TransactionRun

Headers: TypeAlias = list[tuple[str, bytes]]

POSITION_LSN = "deltaforge.commit_lsn"
"""Header: the LSN of the transaction's commit record, in PostgreSQL's notation (`16/B374D848`)."""
POSITION_INDEX = "deltaforge.index"
"""Header: the event's number in its transaction, from 0, in decimal digits."""


class Encoded(msgspec.Struct):
    """Kafka records as parallel lists, one entry per record, in stream order."""

    topics: list[str]
    keys: list[bytes | None]
    values: list[bytes | None]
    """None = tombstone."""
    headers: list[Headers | None]
    nbytes: int
    """Sum of the key and value sizes."""
    events: int
    """Events that gave records: a delete with its tombstone is one, so is a key change with its three records.
    Events of a skipped operation, and those skipped by position, are not counted."""

    def extend(self, other: Encoded) -> None:
        """Put the records of `other` after these."""
        self.topics += other.topics
        self.keys += other.keys
        self.values += other.values
        self.headers += other.headers
        self.nbytes += other.nbytes
        self.events += other.events


class EncoderSpec(msgspec.Struct, frozen=True):
    """All settings that decide which bytes a change becomes. Build it with `spec_for`."""

    topic: str
    """Template of the topic; fields: source.schema, source.table, source.db, tenant_id, op, after.*, before.*."""
    topic_prefix: str
    """Debezium's topic.prefix: `source.name`, and the start of the table identifier."""
    database: str
    tenant: str = ""
    key: str = ""
    """Template of the key; '' = Debezium's key."""
    add_table_identifier: bool = False
    """Keys carry the table, because the topic may hold several."""
    skipped_operations: frozenset[str] = frozenset("t")
    """Of c (insert), u, d, t (truncate)."""
    tombstones: bool = True
    """A delete is followed by a record without value."""
    position_headers: bool = False
    """Every record carries POSITION_LSN and POSITION_INDEX."""
    values: ValueOptions = ValueOptions()
    """How column values are written."""
    delimiter: str = "."
    """topic.delimiter, between prefix, schema and table."""
    key_columns: str = ""
    """message.key.columns: which columns are the key of which tables; '' = each table's own key."""
    columns_included: str = ""
    """column.include.list: regular expressions with commas; '' = all."""
    columns_excluded: str = ""
    """column.exclude.list"""
    key_schemas: bool = False
    """key.converter.schemas.enable: keys are {"schema":..,"payload":..}."""
    value_schemas: bool = False
    """value.converter.schemas.enable"""
    transaction_topic: str = ""
    """Full topic name of transaction records; '' = no transaction metadata (provide.transaction.metadata)."""
    message_topic: str = ""
    """Full topic name of logical messages; '' = they give no records."""
    messages_included: str = ""
    """message.prefix.include.list: regular expressions with commas; '' = all."""
    messages_excluded: str = ""
    """message.prefix.exclude.list"""
    heartbeat_topic: str = ""
    """Full topic name of heartbeats; '' = none."""
    heartbeat_ms: int = 0
    """heartbeat.interval.ms: milliseconds between two heartbeats; 0 = none."""
    context_headers: tuple[tuple[str, bytes], ...] = ()
    """Headers of every record (extended.headers.enabled)."""
    cloudevents_type_prefix: str = ""
    """Not empty: each change is a CloudEvent 1.0 whose type begins so."""
    content_type_header: bool = True
    """CloudEvents have the header by which Kafka's protocol binding knows them."""


def spec_for(
    *,
    topic: str,
    topic_prefix: str,
    database: str,
    tenant: str = "",
    skipped_operations: Iterable[str] = ("t",),
    tombstones: bool = True,
    position_headers: bool = False,
    values: ValueOptions = ValueOptions(),  # noqa: B008 - frozen
    **settings: Any,  # noqa: ANN401 - fields of EncoderSpec
) -> EncoderSpec:
    """An EncoderSpec from settings. Keys carry the table unless the topic's template names schema and table."""
    return EncoderSpec(
        topic=topic,
        topic_prefix=topic_prefix,
        database=database,
        tenant=tenant,
        add_table_identifier=not names_table(topic),
        skipped_operations=frozenset(skipped_operations) - {"none"},
        tombstones=tombstones,
        position_headers=position_headers,
        values=values,
        **settings,
    )


class Encoder(Protocol):
    """Turns parts of transactions into Kafka records. Its state: Relations since `reset`, and the last Origin."""

    name: str
    """`python` or `compiled`."""

    @property
    def omitted(self) -> tuple[str, ...]:
        """Columns left out because their type has no JSON form, as `schema.table.column`, each once."""
        ...

    def reset(self) -> None:
        """A new epoch begins: forget every Relation, the server announces them again."""
        ...

    def learn(self, part: TransactionPart) -> None:
        """Take in the Relations of a part whose events are all durable already."""
        ...

    def encode(
        self, part: TransactionPart, skip: int, previous_end: Lsn, now_ns: int, *, positions: bool = False
    ) -> Encoded:
        """The records of `part` without its first `skip` events.

        Args:
          positions: write the position headers on this part even though the spec does not ask for them.
          previous_end: end LSN of the COMMIT before this transaction; 0 = unknown, written as null.
          now_ns: processing time for the envelope, nanoseconds since 1970-01-01 UTC.

        Raises:
          OperatorError: a value has no form in the envelope, or a row no topic; table, column and LSN are named, the
            value is not.
          ProtocolViolation: the part holds what pgoutput cannot send there. The encoder has to be reset.
        """
        ...

    def encode_run(self, run: TransactionRun, previous_end: Lsn, now_ns: int) -> Encoded:
        """The records of all of `run`: those of its parts, one after another. Arguments and errors as in `encode`."""
        ...

    def encode_message(self, message: LogicalMessage, now_ns: int) -> Encoded:
        """The records of a non-transactional logical message: none in this envelope."""
        ...


def make_encoder(spec: EncoderSpec) -> Encoder:
    """The fastest encoder there is for `spec`. The compiled one gives the same bytes as the Python encoder.

    Raises ConfigError when the environment insists on the compiled one and it was not built.
    """
    from deltaforge.envelopes.debezium import DebeziumEncoder

    if compiled_module("deltaforge.envelopes._compiled") is not None:
        from deltaforge.envelopes.compiled import CompiledEncoder, compilable

        if compilable(spec):
            return CompiledEncoder(spec)
    if spec.cloudevents_type_prefix:
        from deltaforge.envelopes.cloudevents import CloudEventsEncoder

        return CloudEventsEncoder(spec)
    return DebeziumEncoder(spec)
