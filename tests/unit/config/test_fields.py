"""Every field of the schema, made wrong in every simple way: the problem has its line and name, never its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from deltaforge.config.schema import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Problems = Callable[..., list[str]]

CANARY = "canary-4711"

FULL: dict[str, Any] = {
    "apiVersion": "deltaforge/v1",
    "kind": "Pipeline",
    "metadata": {"name": "n", "tenant": "t", "labels": {"a": "b"}, "annotations": {"a": "b"}},
    "spec": {
        "source": {
            "type": "postgres",
            "config": {
                "id": "pg",
                "dsn": "postgres://u:p@db/orders",
                "slot": "s",
                "publication": "p",
                "tables": ["public.orders"],
                "start_position": "earliest",
                "snapshot": {"mode": "never", "max_parallel_tables": 8, "chunk_size": 1000},
                "on_schema_drift": "halt",
                "failover": True,
                "slot_lag_seconds": 1,
            },
        },
        "processors": [],
        "sinks": [
            {
                "type": "kafka",
                "config": {
                    "id": "k",
                    "brokers": "k:9092",
                    "topic": "${source.schema}.${source.table}",
                    "envelope": {
                        "type": "debezium",
                        "topic_prefix": "px",
                        "options": {
                            "skipped.operations": "none",
                            "tombstones.on.delete": False,
                            "unavailable.value.placeholder": "gone",
                            "decimal.handling.mode": "string",
                            "time.precision.mode": "connect",
                            "interval.handling.mode": "string",
                            "hstore.handling.mode": "map",
                            "binary.handling.mode": "hex",
                            "money.fraction.digits": 3,
                            "include.unknown.datatypes": True,
                            "provide.transaction.metadata": True,
                            "topic.transaction": "tx",
                            "message.key.columns": "public.orders:id",
                            "message.prefix.include.list": "a",
                            "column.include.list": "a",
                            "topic.delimiter": "-",
                            "extended.headers.enabled": True,
                            "heartbeat.interval.ms": 1,
                            "topic.heartbeat.prefix": "hb",
                            "key.converter.schemas.enable": True,
                            "value.converter.schemas.enable": True,
                            "replace.null.with.default": False,
                        },
                    },
                    "encoding": "json",
                    "required": True,
                    "exactly_once": True,
                    "send_timeout_secs": 30,
                    "client_conf": {"acks": "all"},
                    "create_topics": {"partitions": 3, "replication_factor": 1, "config": {"min.insync.replicas": 1}},
                    "key_uniqueness": False,
                    "position_headers": True,
                    "on_poison": "halt",
                },
            },
            {"type": "file", "config": {"id": "f", "path": "x", "envelope": {}, "encoding": "json", "required": False}},
            {
                "type": "stdout",
                "config": {
                    "id": "o",
                    "envelope": {"type": "cloudevents", "type_prefix": "com.example"},
                    "encoding": "json",
                    "required": False,
                },
            },
            {
                "type": "memory",
                "config": {
                    "id": "m",
                    "envelope": {"options": {"message.prefix.exclude.list": "a", "column.exclude.list": "a"}},
                    "encoding": "json",
                    "required": False,
                },
            },
            {
                "type": "kafka",
                "config": {"id": "k2", "brokers": "b:9092", "topic": "t.${after.region}", "key": "${after.id}"},
            },
        ],
        "batch": {
            "max_events": 1,
            "max_bytes": 1024,
            "max_ms": 1,
            "respect_source_tx": False,
            "max_inflight": 1,
            "max_tx_events": 1,
            "max_tx_bytes": 1024,
            "max_tx_seconds": 1.5,
            "on_large_tx": "halt",
        },
        "commit_policy": {"mode": "quorum", "quorum": 1},
    },
}

Path = tuple[str | int, ...]


def paths(tree: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every field of FULL with its value, sections included."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key), value
        yield from paths(value, (*path, key))


FIELDS = [path for path, _ in paths(FULL) if isinstance(path[-1], str) and "config.min" not in ".".join(map(str, path))]
FREE = {"labels", "annotations"}
LEAVES = [path for path in FIELDS if not FREE & set(path) and path[-1] not in ("client_conf",)]


def where(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def write(tree: object, indent: str = "") -> str:
    """One field per line, so that a field's line can be found by its text."""
    if isinstance(tree, dict) and tree:
        return "".join(f"{indent}{key}:{child(value, indent)}" for key, value in tree.items())
    assert isinstance(tree, list)
    return "".join(f"{indent}-{child(value, indent)}" for value in tree)


def child(value: object, indent: str) -> str:
    if isinstance(value, (dict, list)) and value:
        return f"\n{write(value, indent + '  ')}"
    return f" {msgspec.json.encode(value).decode()}\n"


def changed(path: Path, value: object) -> str:
    """FULL as text with the field at `path` set to `value`."""
    tree = msgspec.json.decode(msgspec.json.encode(FULL))
    node = tree
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    return write(tree)


def line_of(text: str, path: Path) -> int:
    """The line of a field in what `write` wrote: count down section by section."""
    lines = text.splitlines()
    at = -1
    for depth, part in enumerate(path):
        indent = "  " * depth
        if isinstance(part, int):
            for _ in range(part + 1):
                at = next(i for i in range(at + 1, len(lines)) if lines[i].startswith(f"{indent}-"))
        else:
            at = next(i for i in range(at + 1, len(lines)) if lines[i].startswith(f"{indent}{part}:"))
    return at + 1


def test_the_full_file_loads_and_names_every_field_of_the_schema(load: Callable[..., Any]) -> None:
    """Guards against a field that the tables below forget."""
    loaded = load(write(FULL))
    assert loaded.error is None, loaded.error

    def every_field(kind: msgspec.inspect.Type) -> Iterator[str]:
        if isinstance(kind, msgspec.inspect.Metadata):
            yield from every_field(kind.type)
        elif isinstance(kind, msgspec.inspect.UnionType):
            for member in kind.types:
                yield from every_field(member)
        elif isinstance(kind, msgspec.inspect.VarTupleType):
            yield from every_field(kind.item_type)
        elif isinstance(kind, msgspec.inspect.StructType):
            for field in kind.fields:
                yield field.encode_name
                yield from every_field(field.type)

    assert set(every_field(msgspec.inspect.type_info(Pipeline))) <= {str(path[-1]) for path in FIELDS}


@pytest.mark.fault("C2")
@pytest.mark.parametrize("path", LEAVES, ids=where)
def test_a_wrong_type_is_named_with_its_line_and_not_quoted(problems: Problems, path: Path) -> None:
    """Guards against a message without a place, and against one that quotes a password in the wrong field."""
    value: object = {CANARY: CANARY} if not isinstance(dict(paths(FULL))[path], dict) else CANARY
    text = changed(path, value)
    found = problems(text)
    mine = [line for line in found if line.split(": ")[1].startswith(where(path))]
    assert mine, found
    first = line_of(text, path)
    assert int(mine[0].split(":")[0]) in (first, first + 1)
    assert CANARY not in "\n".join(found).replace(f"'{CANARY}'", "")


@pytest.mark.fault("C2")
@pytest.mark.parametrize("path", [path for path in FIELDS if not FREE & set(path[:-1])], ids=where)
def test_a_misspelt_field_is_unknown_on_its_line_with_the_nearest_name(problems: Problems, path: Path) -> None:
    """Guards against a setting that is silently ignored."""
    wrong = f"{path[-1]}x"
    text = write(FULL).splitlines(keepends=True)
    line = line_of("".join(text), path)
    text[line - 1] = text[line - 1].replace(f"{path[-1]}:", f"{wrong}:", 1)
    found = [entry for entry in problems("".join(text)) if f"'{wrong}'" in entry]
    assert len(found) == 1
    assert found[0].startswith(f"{line}: ")
    if path[-1] != "type":
        assert f"did you mean '{path[-1]}'?" in found[0]


@pytest.mark.fault("C2")
@pytest.mark.parametrize("path", FIELDS, ids=where)
def test_a_duplicate_field_is_refused_on_the_second_line(problems: Problems, path: Path) -> None:
    """Guards against YAML's habit of silently taking the last one."""
    text = write(FULL).splitlines(keepends=True)
    line = line_of("".join(text), path)
    indent = "  " * (len(path) - 1)
    text.insert(line - 1, f"{indent}{path[-1]}: x\n")
    found = [entry for entry in problems("".join(text)) if "duplicate key" in entry]
    assert found == [f"{line + 1}: duplicate key '{path[-1]}', first on line {line} (remove one of them)"]


@pytest.mark.fault("C2")
@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("metadata", "name"), "a.b", "without '.'"),
        (("metadata", "name"), "x" * 101, "1 to 100"),
        (("metadata", "name"), "orders\n", "1 to 100"),
        (("spec", "sinks", 0, "config", "id"), "a.b", "without '.'"),
        (("spec", "source", "type"), "mysql", "only 'postgres' is available"),
        (("spec", "source", "config", "slot"), "Orders", "lower-case"),
        (("spec", "source", "config", "tables"), [], "at least one"),
        (("spec", "source", "config", "tables"), ["orders"], "schema.table"),
        (("spec", "source", "config", "tables"), ["pub%lic.orders"], "schema.table"),
        (("spec", "source", "config", "tables"), ["a.b", "a.b"], "listed twice"),
        (("spec", "source", "config", "tables"), ["a.b", None], "has no value"),
        (("spec", "source", "config", "tables"), ["a." + "ä" * 32], "more than 63 bytes"),
        (("spec", "source", "config", "publication"), "ä" * 32, "more than 63 bytes"),
        (("spec", "source", "config", "start_position"), "now", "earliest, latest or an LSN"),
        (("spec", "source", "config", "snapshot", "mode"), "initial", "snapshots are not available yet"),
        (("spec", "source", "config", "snapshot", "mode"), "always", "snapshots are not available yet"),
        (("spec", "processors"), [{"type": "flatten"}], "processors are not available yet"),
        (("spec", "sinks"), [], "at least one"),
        (("spec", "sinks", 0, "type"), "kafak", "did you mean 'kafka'?"),
        (("spec", "sinks", 0, "config", "brokers"), "a b", "host:port"),
        (("spec", "sinks", 0, "config", "envelope", "type"), "cloudevent", "did you mean 'cloudevents'?"),
        (("spec", "sinks", 1, "config", "envelope", "type"), "cloudevents", "needs a type_prefix"),
        (("spec", "sinks", 0, "config", "envelope", "type_prefix"), "com.example", "has no meaning with type debezium"),
        (("spec", "sinks", 0, "config", "encoding"), "avro", "'avro' is not available yet"),
        (("spec", "sinks", 0, "config", "on_poison"), "dlq", "'dlq' is not available yet"),
        (("spec", "sinks", 0, "config", "key"), "all", "the same key"),
        (("spec", "sinks", 0, "config", "key"), "${after}", "unknown template field"),
        (("spec", "sinks", 0, "config", "key"), "${tenant_id}", "the same key"),
        (("spec", "sinks", 0, "config", "topic"), "a b", "letters, digits"),
        (("spec", "sinks", 0, "config", "topic"), "${op.x}", "unknown template field"),
        (("spec", "sinks", 0, "config", "topic"), "_deltaforge.x.y", "checkpoints"),
        (("spec", "sinks", 0, "config", "topic"), "..", "not topic names"),
        (("spec", "sinks", 0, "config", "create_topics", "partitions"), 0, "at least 1"),
        (("spec", "sinks", 0, "config", "send_timeout_secs"), 901, "at most 900"),
        (("spec", "sinks", 0, "config", "required"), "true", "without quotes"),
        (("spec", "sinks", 1, "config", "path"), "", "is empty"),
        (("spec", "batch", "max_events"), "10", "without quotes"),
        (("spec", "batch", "max_events"), 1.5, "a whole number"),
        (("spec", "batch", "max_events"), True, "a whole number"),
        (("spec", "batch", "max_bytes"), 33_554_433, "at most 33554432"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_the_reason(
    problems: Problems, path: Path, value: object, message: str
) -> None:
    """Guards against a start that fails minutes later, or works otherwise than written."""
    text = changed(path, value)
    found = problems(text)
    assert len(found) == 1, found
    assert message in found[0]
    assert abs(int(found[0].split(":")[0]) - line_of(text, path)) <= 2


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("key_uniqueness",), False, "key_uniqueness"),
        (("envelope",), {"options": {"message.key.columns": "a.b:c"}}, "options.message.key.columns"),
        (("envelope",), {"options": {"key.converter.schemas.enable": True}}, "options.key.converter.schemas.enable"),
    ],
)
def test_what_a_key_template_replaces_is_refused_beside_it(
    problems: Problems, path: Path, value: object, where: str
) -> None:
    """Guards against an option of keys that is taken and forgotten."""
    (found,) = problems(changed(("spec", "sinks", 4, "config", *path), value))
    assert where in found
    assert "replaces the whole key" in found
