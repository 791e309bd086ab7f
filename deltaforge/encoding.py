"""From a sink's `envelope` section to the EncoderSpec, and the topics that records beside the rows go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from msgspec.structs import replace

from deltaforge.envelopes.base import spec_for
from deltaforge.envelopes.options import ValueOptions
from deltaforge.envelopes.topics import sanitized

if TYPE_CHECKING:
    from deltaforge.config.debezium import DebeziumOptions
    from deltaforge.config.schema import Envelope, Metadata
    from deltaforge.envelopes.base import EncoderSpec

RUN_ID: Final = str(uuid4())
"""Of this process: the run id in context headers."""

_CONTEXT = "__debezium.context."


def encoder_spec(
    envelope: Envelope,
    metadata: Metadata,
    *,
    topic: str | None,
    key: str = "",
    database: str,
    key_uniqueness: bool = True,
    position_headers: bool = False,
) -> EncoderSpec:
    """The settings of one sink's encoder.

    Args:
      topic: template of the topic; None = as Debezium names it, a topic for each table.
      key: template of the key; '' = Debezium's key.
      key_uniqueness: keys in shared topics carry the table.
    """
    options = envelope.options
    prefix = envelope.topic_prefix or metadata.name
    between = options.delimiter
    cloud = envelope.type == "cloudevents"
    spec = spec_for(
        topic=between.join((prefix, "${source.schema}", "${source.table}")) if topic is None else topic,
        topic_prefix=prefix,
        database=database,
        tenant=metadata.tenant,
        key=key,
        skipped_operations=options.skipped,
        tombstones=options.tombstones,
        position_headers=position_headers,
        values=_value_options(options),
        delimiter=between,
        key_columns=options.key_columns,
        columns_included=options.columns_included,
        columns_excluded=options.columns_excluded,
        key_schemas=options.key_schemas,
        value_schemas=options.value_schemas,
        transaction_topic=sanitized(f"{prefix}{between}{options.transaction_topic}") if options.transactions else "",
        message_topic="" if cloud else sanitized(f"{prefix}.message"),
        messages_included=options.messages_included,
        messages_excluded=options.messages_excluded,
        heartbeat_topic=sanitized(f"{options.heartbeat_prefix}{between}{prefix}") if options.heartbeat_ms else "",
        heartbeat_ms=options.heartbeat_ms,
        context_headers=_context(prefix) if options.context_headers else (),
        cloudevents_type_prefix=envelope.type_prefix or "",
        # It belongs to the binding to Kafka; in a file it would only make every line longer.
        content_type_header=topic is not None,
    )
    return spec if key_uniqueness else replace(spec, add_table_identifier=False)


def _value_options(options: DebeziumOptions) -> ValueOptions:
    return ValueOptions(
        decimal=options.decimal,
        time=options.time,
        interval=options.interval,
        hstore=options.hstore,
        binary=options.binary,
        money_digits=options.money_digits,
        unknown=options.unknown,
        placeholder=options.placeholder,
        null_defaults=options.null_defaults,
    )


def _context(prefix: str) -> tuple[tuple[str, bytes], ...]:
    """Which connector, task and run a record comes from, in Debezium's order."""
    return (
        (f"{_CONTEXT}connectorLogicalName", prefix.encode()),
        (f"{_CONTEXT}taskId", b"0"),
        (f"{_CONTEXT}connectorName", b"postgresql"),
        (f"{_CONTEXT}runId", RUN_ID.encode()),
    )


def topics_beside(spec: EncoderSpec) -> tuple[str, ...]:
    """Topics of records that were asked for and are no change of a row: transactions and heartbeats."""
    return tuple(topic for topic in (spec.transaction_topic, spec.heartbeat_topic) if topic)


def occasional_topics(spec: EncoderSpec) -> tuple[str, ...]:
    """Topics that nothing may ever be written to: a pipeline starts without them, and waits once one is needed."""
    return (spec.message_topic,) if spec.message_topic else ()
