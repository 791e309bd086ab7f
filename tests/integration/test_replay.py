"""The SQL of orders and types through the whole product, from PostgreSQL to Kafka, compared with what Debezium wrote.

One server, one broker, and one process for each form of the codec, of which a quick run takes one; all read the same
databases, one for each file of SQL. A recording is a Kafka sink: its `envelope.options` are the recorded connector's
options, but for what the pipeline file says elsewhere (`moved`).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # no __all__

from deltaforge.embedded.postgres import PostgresServer
from tests.fault.sizes import FULL
from tests.support.databases import create_database
from tests.support.fix_codecs import ROWS, WALK, extension
from tests.support.kafka_topics import TopicReader, topic_names
from tests.support.pipelines import write
from tests.support.process import Deltaforge
from tests.support.recordings import DATA, Line, by_place, check_clocks, lsn_order, recorded, script

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database
    from tests.support.kafka_topics import Record

WHOLE, KILLED = (("python", "compiled"),) * 2 if FULL else (("compiled",), ("python",))
"""The forms of the codec."""
FILES = ("orders", "types", "modes", "structured", "edges", "messages", "keys", "heartbeats", "router12")
OTHER_OPTIONS = {
    "orders_options": {
        "decimal.handling.mode": "string", "skipped.operations": "none", "tombstones.on.delete": "false",
        "provide.transaction.metadata": "true", "time.precision.mode": "connect",
    },
    "orders_schemas": {"key.converter.schemas.enable": "true", "value.converter.schemas.enable": "true"},
    "orders_router": {"transforms": "route", "transforms.route.topic.replacement": "gold.all"},
}  # fmt: skip
REFUSED = {"modes_connect", "keys_avro", "keys_masks", "router12_field"}
"""Recorded with an option that the pipeline file refuses by name."""
RECORDINGS = [
    (file, name, options)
    for file in FILES
    for name, options in {**script(file).recordings, **(OTHER_OPTIONS if file == "orders" else {})}.items()
    if name not in REFUSED and (DATA / f"{name}.jsonl").exists()
]
END = '"prefix":"replay.end"'
END_S = 300.0
READY_S = 100.0


@dataclass(frozen=True)
class Sink:
    """One recording under the names that this run gives it."""

    codec: str
    recording: str
    prefix: str
    topic: str | None
    delimiter: str

    @property
    def messages(self) -> str:
        """The topic in which its end is seen."""
        return f"{self.prefix}.message"


@dataclass(frozen=True)
class Replayed:
    """All that was written, by codec and recording."""

    found: Mapping[tuple[str, str], list[Line]]


def moved(options: Mapping[str, str], database: Database) -> tuple[str, tuple[str, ...], dict[str, Any]]:
    """Publication, tables and envelope options of a recorded connector."""
    rest = {key: value for key, value in options.items() if not key.startswith(("transforms", "heartbeat.action"))}
    publication = rest.pop("publication.name", "pub")
    if "value.converter.replace.null.with.default" in rest:
        rest["replace.null.with.default"] = rest.pop("value.converter.replace.null.with.default")
    excluded = rest.pop("table.exclude.list", "")
    tables: tuple[str, ...] = ("%.%",)
    if excluded:
        query = "select schemaname || '.' || tablename from pg_publication_tables where pubname = %s order by 1"
        names = [row[0] for row in database.rows(query, [publication])]
        tables = tuple(name for name in names if not any(re.fullmatch(part, name) for part in excluded.split(",")))
    return publication, tables, rest


def pipelines(
    run: str, codec: str, databases: Mapping[str, Database], bootstrap: str
) -> tuple[list[Sink], list[dict[str, Any]]]:
    """The sinks, and the pipeline documents they stand in: one for each choice of tables."""
    sinks, documents = [], dict[tuple[str, str, tuple[str, ...]], dict[str, Any]]()
    for file, name, options in RECORDINGS:
        if file not in databases:
            continue
        database = databases[file]
        publication, tables, rest = moved(options, database)
        # A shared topic's keys hold the prefix, and so does the choice of their partition.
        prefix = "gold" if name == "router12" else f"gold{run}{codec}{name.replace('_', '')}"
        shared = f"{run}.{codec}.{name}.all" if "transforms" in options else None
        sink = Sink(codec, name, prefix, shared, rest.get("topic.delimiter", "."))
        document = documents.setdefault(
            (file, publication, tables),
            _document(f"{run}-{codec}-{file}-{len(documents)}", database, publication, tables),
        )
        between = sink.delimiter
        document["spec"]["sinks"].append(
            {
                "type": "kafka",
                "config": {
                    "id": name.replace("_", "-"),
                    "brokers": bootstrap,
                    "topic": shared or f"{prefix}{between}${{source.schema}}{between}${{source.table}}",
                    "envelope": {"type": "debezium", "topic_prefix": prefix, "options": rest},
                    "exactly_once": True,
                    "create_topics": {"partitions": 1, "replication_factor": 1},
                    "key_uniqueness": options.get("transforms.route.key.enforce.uniqueness") != "false",
                },
            }
        )
        sinks.append(sink)
    return sinks, list(documents.values())


def _document(name: str, database: Database, publication: str, tables: tuple[str, ...]) -> dict[str, Any]:
    source = {
        "id": "source", "dsn": database.dsn(), "slot": name.replace("-", "_"), "publication": publication,
        "tables": list(tables),
    }  # fmt: skip
    return {
        "apiVersion": "deltaforge/v1",
        "kind": "Pipeline",
        "metadata": {"name": name},
        "spec": {"source": {"type": "postgres", "config": source}, "sinks": []},
    }


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """PostgreSQL 15 with room for a slot of every pipeline."""
    with PostgresServer(15, options={"max_replication_slots": "60", "max_wal_senders": "60"}) as server:
        yield server


@pytest.fixture(scope="module")
def replayed(server: PostgresServer, kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """Every file's transactions, one after the other, while the pipelines run."""
    return _replay("whole", WHOLE, FILES, server, kafka, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def killed(server: PostgresServer, kafka: KafkaCluster, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    """The transactions of one file; after every fourth, the processes are killed and started again."""
    return _replay("killed", KILLED, ("orders",), server, kafka, tmp_path_factory.mktemp("killed"), every=4)


def _replay(
    run: str,
    codecs: tuple[str, ...],
    files: tuple[str, ...],
    server: PostgresServer,
    kafka: KafkaCluster,
    folder: Path,
    every: int = 0,
) -> Replayed:
    extension(WALK)
    extension(ROWS)
    databases = {file: create_database(server) for file in files}
    for file, database in databases.items():
        database.execute(script(file).before)
    with ExitStack() as stack:
        sinks, products = [], []
        for codec in codecs:
            made, documents = pipelines(run, codec, databases, kafka.bootstrap())
            sinks += made
            product = _product(folder / codec, codec, documents)
            stack.callback(product.close)
            products.append(product)
        _make_topics(kafka.bootstrap(), sinks)
        _start(products)
        for file, database in databases.items():
            for number, transaction in enumerate(script(file).transactions, start=1):
                database.execute(transaction)
                if every and number % every == 0:
                    for product in products:
                        product.kill9()
                    _start(products)
            database.execute("select pg_logical_emit_message(false, 'replay.end', '')")
        _wait_for_ends(kafka.bootstrap(), sinks, products)
    # Other tests leave topics behind whose beginning is gone.
    ours = sorted(name for name in topic_names(kafka.bootstrap()) if any(_belongs(name, sink) for sink in sinks))
    with TopicReader(kafka.bootstrap(), ours) as reader:
        records = sorted(reader.read_to_end(END_S), key=lambda record: (record.topic, record.partition, record.offset))
    names = {name: databases[file].name for file, name, _ in RECORDINGS if file in databases}
    return Replayed({(sink.codec, sink.recording): _read(records, sink, names[sink.recording]) for sink in sinks})


def _belongs(topic: str, sink: Sink) -> bool:
    """Whether the sink may write there."""
    return topic == sink.topic or sink.prefix in topic


def _start(products: list[Deltaforge]) -> None:
    for product in products:
        product.start()
    for product in products:
        product.wait_ready(READY_S)


def _make_topics(bootstrap: str, sinks: list[Sink]) -> None:
    """All topics in one request: a request for each takes longer than everything else here."""
    wanted = {sink.topic: 12 for sink in sinks if sink.topic}
    for sink in sinks:
        names = {line.topic for line in recorded(sink.recording) if line.topic != "gold.all"}
        wanted |= {name.replace("gold", sink.prefix): 1 for name in names} | {sink.messages: 1}
    admin = AdminClient({"bootstrap.servers": bootstrap})
    made = admin.create_topics([NewTopic(name, count, 1) for name, count in wanted.items()], operation_timeout=END_S)
    for future in made.values():
        future.result(END_S)


def _product(folder: Path, codec: str, documents: list[dict[str, Any]]) -> Deltaforge:
    folder.mkdir()
    for document in documents:
        write(folder / f"{document['metadata']['name']}.yaml", document)
    return Deltaforge(folder, {"DELTAFORGE_CODEC": codec}, name=f"replay-{codec}")


def _wait_for_ends(bootstrap: str, sinks: list[Sink], products: list[Deltaforge]) -> None:
    left = Counter(sink.messages for sink in sinks)
    deadline = time.monotonic() + END_S
    with TopicReader(bootstrap, list(left)) as reader:
        while +left:
            assert time.monotonic() < deadline, f"no end in {sorted(+left)}\n{products[0].tail()}"
            for product in products:
                assert product.running, product.tail()
            left.subtract(record.topic for record in reader.poll() if END in (record.key or b"").decode())


def _read(records: list[Record], sink: Sink, database: str) -> list[Line]:
    """A sink's records under the names of the recording."""

    def text(data: bytes | None) -> str | None:
        return None if data is None else data.decode().replace(sink.prefix, "gold").replace(database, "golddb")

    def belongs(topic: str) -> bool:
        return topic == sink.topic or re.search(rf"(^|[._-]){sink.prefix}([._]|$)", topic) is not None

    return [
        Line(
            "gold.all" if record.topic == sink.topic else record.topic.replace(sink.prefix, "gold"),
            record.partition,
            text(record.key),
            text(record.value),
            tuple((key, text(value) or "") for key, value in record.headers),
        )
        for record in records
        if belongs(record.topic) and END not in (record.key or b"").decode()
    ]


@pytest.mark.fault("G10", "D2", "D3")
@pytest.mark.parametrize("codec", WHOLE)
@pytest.mark.parametrize("recording", [name for _, name, _ in RECORDINGS])
@pytest.mark.slow
def test_the_whole_pipeline_writes_the_bytes_of_debezium(replayed: Replayed, recording: str, codec: str) -> None:
    """Guards against any key, value, topic, partition, header or order that a consumer of Debezium would not expect."""
    _compare(recording, replayed.found[codec, recording])


@pytest.mark.fault("P21")
@pytest.mark.parametrize("codec", KILLED)
@pytest.mark.parametrize("recording", [name for file, name, _ in RECORDINGS if file == "orders"])
def test_a_process_killed_between_statements_writes_the_same(killed: Replayed, recording: str, codec: str) -> None:
    """Guards against a change that is lost, doubled, moved or written otherwise because the process died."""
    _compare(recording, killed.found[codec, recording])


def _compare(recording: str, ours: list[Line]) -> None:
    theirs = recorded(recording)
    if recording.startswith("heartbeats"):
        # How many there are is a matter of time.
        ours, theirs = (_beats_once(lines) for lines in (ours, theirs))
    partitions = recording.startswith("router12")
    found, wanted = (by_place(lines, partitions=partitions) for lines in (ours, theirs))
    if recording == "orders_router":
        # Its partitions cannot be right: what they hold is compared by key.
        found, wanted = (_by_key(places) for places in (found, wanted))
    assert sorted(found, key=str) == sorted(wanted, key=str)
    for place, records in wanted.items():
        assert found[place] == records, place
    check_clocks(ours)
    assert lsn_order(ours) == lsn_order(theirs)


def _beats_once(lines: list[Line]) -> list[Line]:
    beats = {line.topic: line for line in lines if line.key and "serverName" in line.key}
    return [line for line in lines if line.topic not in beats] + list(beats.values())


def _by_key(places: Mapping[Any, list[Any]]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for records in places.values():
        for record in records:
            found.setdefault(record[0], []).append(record)
    return found
