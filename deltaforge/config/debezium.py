"""Debezium's options under Debezium's own names, so that a connector's configuration can be pasted.

Rule 1: an option has Debezium's values and, but for `extended.headers.enabled`, its default.
Rule 2: what is not an option here is refused by name: with the field of the pipeline file that takes its place, where
        there is one (`REFUSED`).
Rule 3: truth values and numbers may also be written as text, as in a properties file; words in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import field

from deltaforge.config.problems import Finding
from deltaforge.config.section import Section, doc
from deltaforge.patterns import PatternError, compiled, key_choices, split_list


class Refusals(Mapping[str, str]):
    """Names that are refused, and why. A name that ends in `*` stands for all that begin so; the longest counts."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self._reasons = dict(reasons)

    def __getitem__(self, name: str) -> str:
        if name in self._reasons:
            return self._reasons[name]
        patterns = [key for key in self._reasons if key[-1] == "*" and name.startswith(key[:-1])]
        if not patterns:
            raise KeyError(name)
        return self._reasons[max(patterns, key=len)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reasons)

    def __len__(self) -> int:
        return len(self._reasons)


_BATCH = "leave it out; spec.batch says how changes are grouped"
_TABLES = "belongs into spec.source.config.tables"
_JSON = "leave it out; the sink's encoding is json"
_BOTH = "write key.converter.schemas.enable and value.converter.schemas.enable"
_KAFKA = "belongs into the Kafka sink's client_conf"
_CONFIRMS = "leave it out; deltaforge confirms by itself"
_PROCESS = "leave it out; it is about a connector's own process"
_UNSUPPORTED = """
binary.format.mode column.mask.* column.propagate.source.type column.truncate.* converters custom.metric.tags
datatype.propagate.source.type decimal.format event.converting.failure.handling.mode
event.processing.failure.handling.mode field.name.adjustment.mode guardrail.* header.converter* include.schema.changes
include.schema.comments incremental.snapshot.* internal.* notification.* offset.* openlineage.* post.processors
predicates* producer.* read.only replica.identity.autoset.values schema.history.* schema.name.adjustment.mode
schema.refresh.mode signal.* skip.messages.without.change sourceinfo.struct.maker statistics.* topic.heartbeat.name
topic.naming.strategy transaction.metadata.factory transforms* xmin.fetch.interval.ms
"""
_OF_THE_PROCESS = """
config.action.reload connection.validation.timeout.ms custom.sanitize.pattern executor.shutdown.timeout.ms
memory.management.* query.fetch.size retriable.* streaming.* topic.cache.size
"""
REFUSED = Refusals(
    {
        **dict.fromkeys(_UNSUPPORTED.split(), "not supported"),
        **dict.fromkeys(_OF_THE_PROCESS.split(), _PROCESS),
        "database.*": "belongs into spec.source.config.dsn",
        "slot.name": "belongs into spec.source.config.slot",
        "slot.failover": "belongs into spec.source.config.failover",
        "slot.drop.on.stop": "leave it out; deltaforge never drops a slot",
        "slot.*": "belongs into spec.source.config.slot; nothing else about it can be set",
        "publication.name": "belongs into spec.source.config.publication",
        "publication.*": "leave it out; the publication of spec.source.config.publication is made with SQL",
        "publish.via.partition.root": "leave it out; it is an option of the publication, which is made with SQL",
        **dict.fromkeys(("lsn.flush.*", "flush.lsn.source", "status.update.interval.ms"), _CONFIRMS),
        "plugin.name": "leave it out; spec.source reads pgoutput",
        **dict.fromkeys(("table.include.list", "schema.include.list", "table.whitelist", "schema.whitelist"), _TABLES),
        **dict.fromkeys(("table.*", "schema.exclude.list", "schema.blacklist"), f"{_TABLES}, which lists what is read"),
        **dict.fromkeys(("snapshot.*", "legacy.snapshot.*"), "belongs into spec.source.config.snapshot"),
        **dict.fromkeys(("topic.prefix", "database.server.name"), "belongs into the sink's envelope.topic_prefix"),
        "topic.creation.*": "belongs into the Kafka sink's create_topics",
        "connector.class": "leave it out; spec.source.type says which database it is",
        "tasks.max": "leave it out; a pipeline is one task",
        "name": "belongs into metadata.name",
        "bootstrap.servers": "belongs into the Kafka sink's brokers",
        "producer.override.*": _KAFKA,
        "exactly.once.support": "belongs into the Kafka sink's exactly_once",
        "transaction.boundary*": "belongs into the Kafka sink's exactly_once and spec.batch",
        **dict.fromkeys(("max.batch.size", "max.queue.size*", "poll.interval.ms"), _BATCH),
        "errors.*": "leave it out; deltaforge waits for its servers without end",
        "schemas.enable": _BOTH,
        **dict.fromkeys(("key.converter", "value.converter"), _JSON),
        "key.converter.*": "not supported",
        "value.converter.*": "not supported",
        "key.converter.replace.null.with.default": "write replace.null.with.default, for keys and values",
        "value.converter.replace.null.with.default": "write replace.null.with.default, for keys and values",
        "column.whitelist": "write column.include.list",
        "column.blacklist": "write column.exclude.list",
        "heartbeat.action.query": "leave it out; the slot moves on without it",
        "heartbeat.topics.prefix": "write topic.heartbeat.prefix",
        "transaction.topic": "write topic.transaction",
    }
)
"""`*` patterns and names; a longer one goes before a shorter one."""

_TOPIC = r"^[A-Za-z0-9._-]{1,200}\Z"
_TOPIC_SAYS = "letters, digits, '.', '_' or '-'"
_COLUMNS = "Regular expressions over `schema.table.column`, with commas; each has to match all of a name."
_PREFIXES = "Regular expressions over the prefixes of logical messages, with commas."

Decimals: TypeAlias = Literal["precise", "string", "double"]
Times: TypeAlias = Literal[
    "adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds", "structured"
]
Binaries: TypeAlias = Literal["bytes", "base64", "base64-url-safe", "hex"]


class DebeziumOptions(Section, frozen=True):
    """Options of the Debezium connector and its converters that change records, under Debezium's names."""

    later: ClassVar[Mapping[str, str]] = REFUSED

    decimal: Annotated[Decimals, doc("How `numeric` and `money` are written.", loose=True)] = field(
        default="precise", name="decimal.handling.mode"
    )
    time: Annotated[Times, doc("How dates and times are written.", loose=True)] = field(
        default="adaptive", name="time.precision.mode"
    )
    interval: Annotated[Literal["numeric", "string"], doc("How `interval` is written.", loose=True)] = field(
        default="numeric", name="interval.handling.mode"
    )
    hstore: Annotated[Literal["json", "map"], doc("How `hstore` is written.", loose=True)] = field(
        default="json", name="hstore.handling.mode"
    )
    binary: Annotated[Binaries, doc("How `bytea` and messages are written.", loose=True)] = field(
        default="bytes", name="binary.handling.mode"
    )
    money_digits: Annotated[int, doc("Decimal places of `money`.", loose=True, ge=0, le=100)] = field(
        default=2, name="money.fraction.digits"
    )
    unknown: Annotated[
        bool, doc("Write columns of types without a form of their own as bytes of their text.", loose=True)
    ] = field(default=False, name="include.unknown.datatypes")
    placeholder: Annotated[
        str,
        doc(
            "Stands for a large value that the update did not touch and PostgreSQL did not send.",
            loose=True,
            pattern=r"^(?:hex:(?:[0-9A-Fa-f]{2})*\Z|(?!hex:))",
            say="text, or `hex:` and the bytes in hex digits",
        ),
    ] = field(default="__debezium_unavailable_value", name="unavailable.value.placeholder")
    tombstones: Annotated[
        bool,
        doc("Send a record with an empty value after each delete, so that compaction forgets the key.", loose=True),
    ] = field(default=True, name="tombstones.on.delete")
    skipped_operations: Annotated[
        str,
        doc(
            "Operations left out: `none`, or some of `c`, `u`, `d`, `t` (truncate) with commas. `r` has no effect.",
            loose=True,
            pattern=r"^\s*(none|[cudtr]\s*(,\s*[cudtr]\s*)*)\s*\Z",
            say="none, or some of c, u, d, t, r with commas",
        ),
    ] = field(default="t", name="skipped.operations")
    transactions: Annotated[
        bool, doc("Number the changes of a transaction, and send its begin and end.", loose=True)
    ] = field(default=False, name="provide.transaction.metadata")
    transaction_topic: Annotated[
        str, doc("Topic of begins and ends, behind the prefix.", loose=True, pattern=_TOPIC, say=_TOPIC_SAYS)
    ] = field(default="transaction", name="topic.transaction")
    key_columns: Annotated[
        str, doc("Keys by table, `schema.table:column,column;...`; tables are regular expressions.", loose=True)
    ] = field(default="", name="message.key.columns")
    messages_included: Annotated[str, doc(f"{_PREFIXES} Others are left out.", loose=True)] = field(
        default="", name="message.prefix.include.list"
    )
    messages_excluded: Annotated[str, doc(f"{_PREFIXES} These are left out.", loose=True)] = field(
        default="", name="message.prefix.exclude.list"
    )
    columns_included: Annotated[str, doc(f"{_COLUMNS} Others are in keys only.", loose=True)] = field(
        default="", name="column.include.list"
    )
    columns_excluded: Annotated[str, doc(f"{_COLUMNS} These are in keys only.", loose=True)] = field(
        default="", name="column.exclude.list"
    )
    delimiter: Annotated[
        str,
        doc(
            "Between prefix, schema and table, where `topic` does not say it.",
            loose=True,
            pattern=_TOPIC,
            say=_TOPIC_SAYS,
        ),
    ] = field(default=".", name="topic.delimiter")
    context_headers: Annotated[
        bool, doc("Send connector, task and run in headers of each change. Costs speed.", loose=True)
    ] = field(default=False, name="extended.headers.enabled")
    heartbeat_ms: Annotated[
        int, doc("Send a heartbeat this often, in milliseconds; 0 = never.", loose=True, ge=0, le=2_147_483_647)
    ] = field(default=0, name="heartbeat.interval.ms")
    heartbeat_prefix: Annotated[
        str, doc("Topic of heartbeats, before the prefix.", loose=True, pattern=_TOPIC, say=_TOPIC_SAYS)
    ] = field(default="__debezium-heartbeat", name="topic.heartbeat.prefix")
    key_schemas: Annotated[bool, doc("Write each key with Kafka Connect's schema.", loose=True)] = field(
        default=False, name="key.converter.schemas.enable"
    )
    value_schemas: Annotated[bool, doc("Write each value with Kafka Connect's schema.", loose=True)] = field(
        default=False, name="value.converter.schemas.enable"
    )
    null_defaults: Annotated[bool, doc("Write NULL in a column with a default as that default.", loose=True)] = field(
        default=True, name="replace.null.with.default"
    )

    @property
    def skipped(self) -> frozenset[str]:
        """`skipped.operations` as a set of letters."""
        return frozenset() if "none" in self.skipped_operations else frozenset(self.skipped_operations) & set("cudt")


_LISTS = ("column.include.list", "column.exclude.list", "message.prefix.include.list", "message.prefix.exclude.list")
_SCHEMAS = ("key.converter.schemas.enable", "value.converter.schemas.enable")
_BESIDE = (
    "provide.transaction.metadata", "heartbeat.interval.ms", "message.prefix.include.list",
    "message.prefix.exclude.list",
)  # fmt: skip
"""Options of records that are no change of a row."""


def envelope_findings(envelope: Mapping[str, Any], options: Mapping[str, Any]) -> Iterable[Finding]:
    """What cannot work together in one `envelope` section and its options; paths start at the section."""
    kind = envelope.get("type", "debezium")
    prefix = "type_prefix" in envelope
    if kind == "cloudevents" and not prefix:
        yield Finding("type", "cloudevents needs a type_prefix", "add type_prefix: com.example.cdc beside it")
    elif kind != "cloudevents" and prefix:
        yield Finding("type_prefix", f"has no meaning with type {kind}", "remove it, or write type: cloudevents")
    refused = {"debezium": (), "native": _SCHEMAS, "cloudevents": (*_SCHEMAS, *_BESIDE)}.get(kind, ())
    for name in refused:
        if options.get(name):
            yield Finding(f"options.{name}", f"is not possible with type {kind}", "write type: debezium, or remove it")
    yield from _list_findings(options)
    if text := options.get("message.key.columns"):
        yield from _judged("message.key.columns", text, key_choices)


def _list_findings(options: Mapping[str, Any]) -> Iterable[Finding]:
    for name in _LISTS:
        for pattern in split_list(options.get(name) or "") if options.get(name) else ():
            yield from _judged(name, pattern, compiled)
    for included, excluded in (_LISTS[:2], _LISTS[2:]):
        if options.get(included) and options.get(excluded):
            where = f"options.{excluded}"
            yield Finding(where, f"cannot stand beside {included}", "keep one of them", (f"options.{included}",))


def _judged(name: str, text: str, judge: Callable[[str], object]) -> Iterable[Finding]:
    try:
        judge(text)
    except PatternError as error:
        yield Finding(f"options.{name}", f"cannot be used: {error}")
