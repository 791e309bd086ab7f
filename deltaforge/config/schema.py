"""The pipeline file as frozen values: every field, its default, its bounds and the sentence the manual prints for it.

`load.py` walks these definitions to find problems with their place; `reference.py` prints them as the manual's page.
A word that exists in the field but not in this version is listed as `later`, so that it is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the annotations of these classes
from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec

from deltaforge.config.debezium import DebeziumOptions
from deltaforge.config.dsn import Dsn  # noqa: TC001 - as above
from deltaforge.config.properties import ClientProperties
from deltaforge.config.section import NOT_YET, Section, doc
from deltaforge.config.templates import KeyTemplate, TopicTemplate  # noqa: TC001 - as above

MIB = 1024 * 1024

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}\Z"
_NAME_SAYS = "1 to 100 letters, digits, '_' or '-', without '.': topic names and ids are built from it"
_SLOT_SAYS = "1 to 63 lower-case letters, digits or '_', as PostgreSQL wants it"
_TYPE_SAYS = "letters, digits, '.', '_' or '-', such as com.example.cdc"
_TABLE_SAYS = "schema.table, each possibly ending in '%' for 'whatever follows'"

Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=_NAME, extra={"say": _NAME_SAYS})]
Table: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[^.%]*%?\.[^.%]*%?\Z", min_length=3, extra={"say": _TABLE_SAYS})
]


class Metadata(Section, frozen=True):
    """Who the pipeline is."""

    name: Annotated[Name, doc("Name of the pipeline: part of ids, topics, metrics and the admin address.")]
    tenant: Annotated[str, doc("Label on every metric, and `${tenant_id}` in topics.", max_length=200)] = ""
    labels: Annotated[dict[str, str], doc("Free labels, shown by the admin API.")] = {}  # noqa: RUF012
    annotations: Annotated[dict[str, str], doc("Free notes, shown by the admin API.")] = {}  # noqa: RUF012


class Snapshot(Section, frozen=True):
    """Reading the rows that were there before the stream."""

    mode: Annotated[
        Literal["never"],
        doc(
            "Only `never`: stream changes from the slot on.",
            later={
                "initial": "snapshots are not available yet; existing rows are not read, only changes are streamed",
                "always": "snapshots are not available yet; existing rows are not read, only changes are streamed",
            },
        ),
    ] = "never"
    max_parallel_tables: Annotated[int, doc("Tables read at once. Has no effect with `never`.", ge=1, le=64)] = 8
    chunk_size: Annotated[int, doc("Rows in one piece. Has no effect with `never`.", ge=100, le=10_000_000)] = 10_000


class PostgresSourceConfig(Section, frozen=True):
    """A logical replication slot of PostgreSQL."""

    id: Annotated[Name, doc("Name of the source in logs and metrics.")]
    dsn: Annotated[Dsn, doc("Where PostgreSQL is: `postgres://user:password@host:5432/database?sslmode=...`.")]
    slot: Annotated[str, doc("Replication slot; created when absent.", pattern=r"^[a-z0-9_]{1,63}\Z", say=_SLOT_SAYS)]
    publication: Annotated[str, doc("Publication to read; it has to exist.", min_length=1, max_length=63)]
    tables: Annotated[
        tuple[Table, ...],
        doc("Tables, as `schema.table`; a trailing `%` in either part stands for any ending.", min_length=1),
    ]
    start_position: Annotated[
        str,
        doc(
            "Where a new slot's stream starts: `earliest`, `latest`, or an LSN that the slot has to be at.",
            pattern=r"^(earliest|latest|[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})\Z",
            say="earliest, latest or an LSN such as 16/B374D848",
        ),
    ] = "earliest"
    snapshot: Annotated[Snapshot, doc("Reading of existing rows.")] = Snapshot()
    on_schema_drift: Annotated[
        Literal["adapt", "halt"], doc("What to do when a table's columns change: go on with the new ones, or stop.")
    ] = "adapt"
    failover: Annotated[bool, doc("Create the slot as a failover slot (PostgreSQL 17 or later).")] = False
    slot_lag_seconds: Annotated[
        int,
        doc(
            "Hold confirmations to PostgreSQL back by this time, so that a lost Kafka tail can be replayed.",
            ge=0,
            le=86_400,
        ),
    ] = 0


class PostgresSource(Section, frozen=True, tag_field="type", tag="postgres"):
    """Changes from PostgreSQL."""

    config: Annotated[PostgresSourceConfig, doc("Settings of the source.")]


class Envelope(Section, frozen=True):
    """How a change becomes a record."""

    type: Annotated[
        Literal["debezium", "native", "cloudevents"],
        doc("Form of keys and values. `native` is `debezium` without schemas."),
    ] = "debezium"
    topic_prefix: Annotated[
        Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None,
        doc("`source.name` in the records; defaults to the pipeline's name."),
    ] = None
    type_prefix: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,200}\Z", extra={"say": _TYPE_SAYS})] | None,
        doc("What the `type` of a CloudEvent begins with. With type `cloudevents` only, which needs it."),
    ] = None
    options: Annotated[DebeziumOptions, doc("Options under Debezium's own names.")] = DebeziumOptions()


class CreateTopics(Section, frozen=True):
    """How missing data topics are created. Without it a missing topic is an error."""

    partitions: Annotated[int, doc("Partitions of a new topic.", ge=1, le=100_000)]
    replication_factor: Annotated[int, doc("Replicas of a new topic.", ge=1, le=1000)]
    config: Annotated[dict[str, str | int | float | bool], doc("Topic settings, such as `min.insync.replicas`.")] = {}  # noqa: RUF012


_ENCODINGS_LATER = dict.fromkeys(("avro", "protobuf", "json_schema", "jsonschema"), NOT_YET)
Encoding: TypeAlias = Annotated[Literal["json"], doc("How keys and values are written.", later=_ENCODINGS_LATER)]
SinkId: TypeAlias = Annotated[Name, doc("Name of the sink: part of ids, topics and metrics.")]
SinkEnvelope: TypeAlias = Annotated[Envelope, doc("Form of the records.")]
Required: TypeAlias = Annotated[bool, doc("Whether `commit_policy: required` waits for this sink.")]


class KafkaSinkConfig(Section, frozen=True):
    """Records into Kafka."""

    later: ClassVar[Mapping[str, str]] = {
        "headers": NOT_YET,
        "filter": NOT_YET,
        "schema_registry": NOT_YET,
    }

    id: SinkId
    brokers: Annotated[
        str,
        doc(
            "First brokers to ask: `host:port`, several with commas.",
            pattern=r"^\s*[^\s,@]+(\s*,\s*[^\s,@]+)*\s*\Z",
            say="host:port, several with commas",
        ),
    ]
    topic: Annotated[TopicTemplate, doc("Topic, a name or a [template](#templates).")]
    key: Annotated[
        KeyTemplate | None,
        doc("[Template](#templates) of the keys, which are its plain text. Without it they are Debezium's."),
    ] = None
    envelope: SinkEnvelope = Envelope()
    encoding: Encoding = "json"
    required: Required = True
    exactly_once: Annotated[
        bool,
        doc("Write rows and position in one Kafka transaction: nothing lost or doubled for read_committed readers."),
    ] = False
    send_timeout_secs: Annotated[
        float, doc("How long the records of one Kafka transaction may take to be delivered, in seconds.", ge=1, le=900)
    ] = 60
    client_conf: Annotated[ClientProperties, doc("librdkafka producer properties, passed on after a check.")] = (
        ClientProperties()
    )
    create_topics: Annotated[CreateTopics | None, doc("Create missing data topics. Without it they have to exist.")] = (
        None
    )
    key_uniqueness: Annotated[bool, doc("Put the table into the keys of a topic that several tables share.")] = True
    position_headers: Annotated[bool, doc("Put the source position into a header of every record.")] = False
    on_poison: Annotated[
        Literal["halt"],
        doc("What to do with a record that Kafka refuses for good.", later={"dlq": NOT_YET, "skip": NOT_YET}),
    ] = "halt"


class FileSinkConfig(Section, frozen=True):
    """Records as JSON lines in a file, written to disk before they are confirmed."""

    id: SinkId
    path: Annotated[str, doc("File to append to; its directory has to exist.", min_length=1)]
    envelope: SinkEnvelope = Envelope()
    encoding: Encoding = "json"
    required: Required = True


class StdoutSinkConfig(Section, frozen=True):
    """Records as JSON lines on standard output."""

    id: SinkId
    envelope: SinkEnvelope = Envelope()
    encoding: Encoding = "json"
    required: Required = True


class MemorySinkConfig(Section, frozen=True):
    """Records kept in memory, for tests."""

    id: SinkId
    envelope: SinkEnvelope = Envelope()
    encoding: Encoding = "json"
    required: Required = True


class KafkaSink(Section, frozen=True, tag_field="type", tag="kafka"):
    """Records into Kafka."""

    config: Annotated[KafkaSinkConfig, doc("Settings of the sink.")]


class FileSink(Section, frozen=True, tag_field="type", tag="file"):
    """Records into a file."""

    config: Annotated[FileSinkConfig, doc("Settings of the sink.")]


class StdoutSink(Section, frozen=True, tag_field="type", tag="stdout"):
    """Records to standard output."""

    config: Annotated[StdoutSinkConfig, doc("Settings of the sink.")]


class MemorySink(Section, frozen=True, tag_field="type", tag="memory"):
    """Records into memory."""

    config: Annotated[MemorySinkConfig, doc("Settings of the sink.")]


Sink: TypeAlias = KafkaSink | FileSink | StdoutSink | MemorySink


class Batching(Section, frozen=True):
    """How changes are grouped on their way to the sinks."""

    max_events: Annotated[int, doc("Most events in a batch.", ge=1, le=1_000_000)] = 1000
    max_bytes: Annotated[
        int, doc("Most WAL bytes in a batch; one larger event is a batch of its own.", ge=1024, le=32 * MIB)
    ] = MIB
    max_ms: Annotated[int, doc("Longest wait of a batch's first event, in milliseconds.", ge=1, le=60_000)] = 100
    respect_source_tx: Annotated[bool, doc("End Kafka transactions only where a source transaction ends.")] = True
    max_inflight: Annotated[
        int, doc("Most batches handed to the Kafka client and not yet delivered.", ge=1, le=1000)
    ] = 4
    max_tx_events: Annotated[
        Annotated[int, msgspec.Meta(ge=1)] | None,
        doc("Split a source transaction above this many events. No limit by default."),
    ] = None
    max_tx_bytes: Annotated[
        Annotated[int, msgspec.Meta(ge=1024)] | None,
        doc("Split a source transaction above this many WAL bytes. No limit by default."),
    ] = None
    max_tx_seconds: Annotated[
        Annotated[float, msgspec.Meta(ge=1, le=900)] | None,
        doc("Split a source transaction open in Kafka for longer. Default: half of `transaction.timeout.ms`."),
    ] = None
    on_large_tx: Annotated[
        Literal["split", "halt"],
        doc("What to do with a transaction above these limits, or that the brokers twice did not take in time."),
    ] = "split"


class CommitPolicy(Section, frozen=True):
    """Which sinks have to hold a change before PostgreSQL may forget it."""

    mode: Annotated[
        Literal["all", "required", "quorum"], doc("`all` sinks, all with `required: true`, or any `quorum` of them.")
    ] = "required"
    quorum: Annotated[Annotated[int, msgspec.Meta(ge=1)] | None, doc("How many sinks, with mode `quorum` only.")] = None


class Processor(Section, frozen=True):
    """No processor exists yet."""


class Spec(Section, frozen=True, kw_only=True):
    """What the pipeline does."""

    later: ClassVar[Mapping[str, str]] = {"sharding": NOT_YET, "connection_policy": NOT_YET, "schema_sensing": NOT_YET}

    source: Annotated[PostgresSource, doc("Where changes come from.")]
    processors: Annotated[
        tuple[Processor, ...], doc("Only the empty list for now.", max_length=0, say="processors are not available yet")
    ] = ()
    sinks: Annotated[tuple[Sink, ...], doc("Where records go.", min_length=1)]
    batch: Annotated[Batching, doc("Grouping of changes.")] = Batching()
    commit_policy: Annotated[CommitPolicy, doc("When a change counts as delivered.")] = CommitPolicy()


class Pipeline(Section, frozen=True):
    """One pipeline: one file."""

    apiVersion: Annotated[Literal["deltaforge/v1"], doc("Version of this format.")]  # noqa: N815 - the file's own word
    kind: Annotated[Literal["Pipeline"], doc("The only kind.")]
    metadata: Annotated[Metadata, doc("Who the pipeline is.")]
    spec: Annotated[Spec, doc("What the pipeline does.")]
