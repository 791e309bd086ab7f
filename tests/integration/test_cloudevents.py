"""CloudEvents through the whole product into a real Kafka and a file, with a kill in the middle of a transaction."""

from __future__ import annotations

import json
import signal
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from cloudevents.core.bindings import kafka as binding
from cloudevents.core.formats.json import JSONFormat

from tests.ledger.workload import make_tables
from tests.support.cloud_events import event_of
from tests.support.kafka_topics import create_topic, read_topic
from tests.support.orders import wait_until
from tests.support.pipelines import Document, kafka_config, local, write
from tests.support.process import Deltaforge

if TYPE_CHECKING:
    from pathlib import Path

    from deltaforge.embedded.kafka import KafkaCluster
    from tests.support.databases import Database
    from tests.support.kafka_topics import Record

CONTENT_TYPE = ("content-type", b"application/cloudevents+json; charset=UTF-8")
ROWS = 50
CHANGES = f"""
insert into orders (id, customer_id, total, created_at) select id, 1, 12.50, now() from generate_series(1, {ROWS}) id;
update orders set total = 7 where id = 1;
update orders set id = 1001 where id = 2;
delete from orders where id = 3;
truncate payments, order_items;
"""
HAPPENED = {"created": ROWS + 1, "updated": 1, "deleted": 2, "truncated": 2}


def pipeline(prefix: str, topic: str, file: Path) -> Document:
    """Events into Kafka and, by a second sink, into a file."""
    envelope = {
        "type": "cloudevents", "type_prefix": "com.example.cdc", "topic_prefix": "shop",
        "options": {"skipped.operations": "none", "decimal.handling.mode": "string"},
    }  # fmt: skip
    document = local(f"clouds-{prefix}", topic)
    kafka_config(document).update({"envelope": envelope, "position_headers": True})
    # YAML would write one object as an alias.
    config = {"id": "lines", "path": str(file), "envelope": deepcopy(envelope)}
    document["spec"]["sinks"].append({"type": "file", "config": config})
    return document


def events(records: list[Record]) -> list[dict[str, Any]]:
    return [event_of(record.value) for record in records if record.value is not None]


def check_record(record: Record) -> None:
    """Header, key and position of one record belong to its value."""
    headers = dict(record.headers)
    if record.value is None:
        assert "content-type" not in headers
        return
    assert record.headers[0] == CONTENT_TYPE
    event = event_of(record.value)
    position = b":".join(headers[f"deltaforge.{name}"] or b"" for name in ("commit_lsn", "index"))
    assert event["id"].partition(".")[0] == position.decode()
    assert event["source"] == f"deltaforge/shop/{event['subject']}"
    data = event["data"]
    row = data["after"] or data["before"]
    if row is None:
        assert record.key is None
    else:
        identifier = f"shop.{event['subject']}"
        assert json.loads(record.key or b"") == {"id": row["id"], "__dbz__physicalTableIdentifier": identifier}
    message = binding.KafkaMessage(headers=headers, key=None, value=record.value)  # type: ignore[arg-type]
    assert binding.from_kafka(message, JSONFormat()).get_data() == data


@pytest.mark.fault("P5")
@pytest.mark.slow
def test_events_arrive_whole_and_have_the_same_ids_after_a_kill(
    kafka: KafkaCluster, database: Database, tmp_path: Path, topic_prefix: str
) -> None:
    """Guards readers that know repeated events by `source` and `id`, and brokers' tools that look at the header."""
    make_tables(database.dsn())
    topic, bootstrap = create_topic(kafka.bootstrap(), f"{topic_prefix}.events", 3), kafka.bootstrap()
    lines = tmp_path / "lines"
    file = write(tmp_path / "pipeline.yaml", pipeline(topic_prefix, topic, lines))
    servers = {"POSTGRES_DSN": database.dsn(), "KAFKA_BROKERS": bootstrap}
    # GIVEN a pipeline that dies when everything is in Kafka and not committed
    with Deltaforge(file, {**servers, "DELTAFORGE_FAILPOINTS": "kafka.before_commit=kill@1"}, name="clouds") as first:
        first.wait_ready()
        database.execute(CHANGES)
        assert first.wait(90) == -signal.SIGKILL, first.tail()
    lost = events(read_topic(bootstrap, topic, "read_uncommitted"))
    assert lost
    assert read_topic(bootstrap, topic) == []
    # WHEN it runs again
    with Deltaforge(file, servers, name="clouds") as second:
        second.wait_ready()

        def arrived() -> bool:
            return len(read_topic(bootstrap, topic)) >= sum(HAPPENED.values()) + HAPPENED["deleted"]

        wait_until(arrived, "all events are committed", lambda: None)
        assert second.term() == 0, second.tail()
    # THEN every change is one event, and what was sent before is sent as the same event
    records = read_topic(bootstrap, topic)
    for record in records:
        check_record(record)
    found = {(event["source"], event["id"]): event for event in events(records)}
    assert len(found) == len(events(records)) == sum(HAPPENED.values())
    for event in lost:
        assert found[event["source"], event["id"]] == event
    for happened, count in HAPPENED.items():
        assert sum(event["type"] == f"com.example.cdc.{happened}" for event in found.values()) == count
    assert next(event for event in found.values() if event["data"]["after"])["data"]["after"]["total"] == "12.50"
    # AND the file has the same
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    same = {(line["value"]["source"], line["value"]["id"]): line["value"] for line in written if line["value"]}
    assert same == found
    assert not any("content-type" in line.get("headers", {}) for line in written)
