"""A connector's configuration, pasted: every value Debezium has is taken, every other key has an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from deltaforge.config.debezium import REFUSED, DebeziumOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Problems = Callable[..., list[str]]

VALUES = {
    "decimal.handling.mode": ("precise", "string", "double", "DOUBLE"),
    "time.precision.mode": (
        "adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds", "structured",
        "STRUCTURED",
    ),
    "interval.handling.mode": ("numeric", "string", "String"),
    "hstore.handling.mode": ("json", "map"),
    "binary.handling.mode": ("bytes", "base64", "base64-url-safe", "hex"),
    "money.fraction.digits": ("0", "2", "7"),
    "include.unknown.datatypes": ("true", "false", "TRUE"),
    "unavailable.value.placeholder": ("gone", "hex:00ff41", "hex:00FF", "hex:", "", "HEX:zz"),
    "tombstones.on.delete": ("true", "false"),
    "skipped.operations": ("none", "t", "c,u", "c, u, d", "r", "c,u,d,t,r"),
    "provide.transaction.metadata": ("true", "false"),
    "topic.transaction": ("tx", "a.b-c_d"),
    "message.key.columns": ("public.a:b", "public.a:b;", "(.*).a:b,c", "a.b:c ; d.e:f"),
    "message.prefix.include.list": ("a,b", "a.*"),
    "message.prefix.exclude.list": ("a,b", "a.*"),
    "column.include.list": ("public.a.b, public.c.d", r"public\\.a\\..*"),
    "column.exclude.list": ("public.a.b", "(.*).secret"),
    "topic.delimiter": (".", "_", "-", "--"),
    "extended.headers.enabled": ("true", "false"),
    "heartbeat.interval.ms": ("0", "10000", "2147483647"),
    "topic.heartbeat.prefix": ("__debezium-heartbeat", "hb"),
    "key.converter.schemas.enable": ("true", "false"),
    "value.converter.schemas.enable": ("true", "false"),
    "replace.null.with.default": ("true", "false"),
}  # fmt: skip
"""What the connector's own validation takes, of each option that is one here."""

BAD = {
    "time.precision.mode": "iso",
    "unavailable.value.placeholder": "hex:0",
    "skipped.operations": "none,c",
    "tombstones.on.delete": "yes",
    "message.key.columns": "x",
    "message.prefix.include.list": "[",
    "column.include.list": "[",
    "topic.delimiter": "$",
    "topic.transaction": "a b",
    "heartbeat.interval.ms": "-1",
}

FIELDS = """
column.mask.hash.SHA-256.with.salt.x column.mask.with.5.chars column.propagate.source.type column.truncate.to.5.chars
connection.validation.timeout.ms converters custom.metric.tags custom.sanitize.pattern database.exclude.list
database.initial.statements database.query.timeout.ms database.sslmode database.tcpKeepAlive
datatype.propagate.source.type errors.max.retries event.converting.failure.handling.mode
event.processing.failure.handling.mode executor.shutdown.timeout.ms field.name.adjustment.mode flush.lsn.source
guardrail.collections.max heartbeat.action.query heartbeat.topics.prefix include.schema.comments
incremental.snapshot.chunk.size internal.log.position.check.enable legacy.snapshot.max.threads lsn.flush.mode
lsn.flush.timeout.action max.batch.size max.queue.size max.queue.size.in.bytes memory.management.tables.class
notification.enabled.channels openlineage.integration.enabled plugin.name poll.interval.ms post.processors
publication.autocreate.mode publication.name publish.via.partition.root query.fetch.size
replica.identity.autoset.values retriable.restart.connector.wait.ms schema.exclude.list schema.include.list
schema.name.adjustment.mode schema.refresh.mode signal.data.collection skip.messages.without.change slot.drop.on.stop
slot.failover slot.max.retries slot.name slot.stream.params snapshot.delay.ms snapshot.mode sourceinfo.struct.maker
statistics.metrics.enabled status.update.interval.ms streaming.delay.ms table.exclude.list table.ignore.builtin
table.include.list topic.naming.strategy topic.prefix transaction.metadata.factory xmin.fetch.interval.ms
""".split()  # noqa: SIM905
"""The connector's fields that are no options here."""

PASTED = {
    "name": "metadata.name",
    "connector.class": "spec.source.type",
    "tasks.max": "a pipeline is one task",
    "database.hostname": "spec.source.config.dsn",
    "database.port": "spec.source.config.dsn",
    "database.user": "spec.source.config.dsn",
    "database.password": "spec.source.config.dsn",
    "database.dbname": "spec.source.config.dsn",
    "topic.prefix": "envelope.topic_prefix",
    "slot.name": "spec.source.config.slot",
    "plugin.name": "spec.source reads pgoutput",
    "publication.name": "spec.source.config.publication",
    "publication.autocreate.mode": "made with SQL",
    "table.include.list": "spec.source.config.tables",
    "snapshot.mode": "spec.source.config.snapshot",
    "key.converter": "encoding is json",
    "value.converter": "encoding is json",
    "max.batch.size": "spec.batch",
    "heartbeat.action.query": "the slot moves on without it",
    "transforms": "not supported",
    "transforms.unwrap.type": "not supported",
}
"""What a configuration has beside the options, and what the answer says."""


def with_options(minimal: str, options: Mapping[str, str]) -> str:
    """The small file with these options, one on a line."""
    lines = "".join(f'            {name}: "{value}"\n' for name, value in options.items())
    envelope = f"        envelope:\n          type: debezium\n          options:\n{lines}"
    return minimal.replace("        client_conf:\n", f"{envelope}        client_conf:\n")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in VALUES.items() for value in values])
def test_every_value_of_debezium_is_taken(problems: Problems, minimal: str, name: str, value: str) -> None:
    """Guards against a configuration that works there and is refused here."""
    assert problems(with_options(minimal, {name: value})) == []


def test_every_option_is_tried() -> None:
    """Guards against an option that the test above forgets."""
    assert set(VALUES) == {field.encode_name for field in msgspec.structs.fields(DebeziumOptions)}


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_what_debezium_refuses_is_refused(problems: Problems, minimal: str, name: str, value: str) -> None:
    """Guards against a value that is taken for something else."""
    (found,) = problems(with_options(minimal, {name: value}))
    assert name in found


@pytest.mark.parametrize("name", FIELDS)
def test_no_field_of_the_connector_is_unknown(name: str) -> None:
    """Guards against `unknown key` for something that Debezium does know."""
    assert REFUSED[name]


def test_a_pasted_configuration_has_one_answer_for_each_key(problems: Problems, minimal: str) -> None:
    """Guards against keys that are ignored, and against a first problem that hides the others."""
    mixed = {**dict.fromkeys(PASTED, "canary-4711"), "time.precision.mode": "connect", "tombstones.on.delete": "false"}
    text = with_options(minimal, mixed)
    lines = [line.strip() for line in text.splitlines()]
    found = problems(text)
    assert len(found) == len(PASTED)
    for (name, answer), problem in zip(PASTED.items(), found, strict=True):
        line = lines.index(f'{name}: "canary-4711"') + 1
        assert problem.startswith(f"{line}: spec.sinks[0].config.envelope.options.{name}: ")
        assert answer in problem
        assert "canary" not in problem


def test_heartbeats_that_a_sink_cannot_send_are_refused(problems: Problems, minimal: str) -> None:
    """Guards against an option that is taken and does nothing."""
    asked = 'envelope: {type: debezium, options: {heartbeat.interval.ms: "1000"}}'
    text = minimal.replace(
        "  batch:\n", f"    - type: stdout\n      config:\n        id: out\n        {asked}\n  batch:\n"
    )
    (found,) = problems(text)
    assert "sinks[1].config.envelope.options.heartbeat.interval.ms: only a Kafka sink sends heartbeats" in found
