"""The bytes of a live Debezium, reproduced from the same SQL on a real server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.envelopes.base import EncoderSpec, make_encoder, spec_for
from tests.support.databases import Database, create_database, drop_database
from tests.support.slot_reader import read_slot, transactions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deltaforge.embedded.postgres import PostgresServer
    from deltaforge.model import TransactionPart

DATA = Path(__file__).parent.parent / "data" / "debezium"
pytestmark = pytest.mark.usefixtures("codec")
NOW_NS = 1_795_417_206_093_123_456
RANDOM_UUID = re.compile(r'"id":"(?!00000000|6f1c1f0e)[0-9a-f-]{36}"')

Row = dict[str, Any]


@pytest.fixture(scope="module")
def orders(postgres15: PostgresServer) -> Iterator[list[TransactionPart]]:
    """The transactions of orders.sql, from the slot of a real PostgreSQL 15."""
    database = create_database(postgres15)
    try:
        run_script(database, (DATA / "orders.sql").read_text())
        yield transactions(database, read_slot(database, database.name, "pub"))
    finally:
        drop_database(database)


def run_script(database: Database, script: str) -> None:
    """Schema and first rows, then a slot, then one transaction per `-- TX` block."""
    before, _, stream = script.partition("-- STREAM\n")
    database.execute(before)
    database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [database.name])
    for block in stream.split("-- TX\n"):
        database.execute(block)


def encoded(parts: list[TransactionPart], spec: EncoderSpec) -> list[Row]:
    """Our records as the recordings hold them."""
    encoder = make_encoder(spec)
    rows: list[Row] = []
    for part in parts:
        out = encoder.encode(part, 0, part.previous_end, NOW_NS)
        assert out.nbytes == sum(len(x or b"") for x in [*out.keys, *out.values])
        for topic, key, value, headers in zip(out.topics, out.keys, out.values, out.headers, strict=True):
            rows.append(
                {
                    "topic": topic,
                    "key": key.decode() if key is not None else None,
                    "value": value.decode() if value is not None else None,
                    "headers": [[name, content.decode()] for name, content in headers or ()],
                }
            )
    assert encoder.omitted == ()
    return rows


def recorded(name: str) -> list[Row]:
    """The streamed row changes of a recording."""
    rows = []
    for line in (DATA / name).read_text().splitlines():
        row = json.loads(line)
        if row["topic"].endswith(".message") or (row["value"] and '"op":"r"' in row["value"]):
            continue
        row["headers"] = [header for header in row["headers"] if not header[0].startswith("__debezium.context.")]
        rows.append(row)
    return rows


def masked(row: Row) -> tuple[str, str | None, str | None, list[list[str]]]:
    """A record without what differs from run to run."""
    value = row["value"]
    if value is not None:
        value = re.sub(r'("(?:ts_[mun]s|lsn|txId)":)\d+', r"\1N", value)
        value = re.sub(r'\\"\d+\\"', r'\\"N\\"', value)
        value = RANDOM_UUID.sub('"id":"RANDOM"', value)
    key = RANDOM_UUID.sub('"id":"RANDOM"', row["key"]) if row["key"] is not None else None
    return row["topic"], key, value, row["headers"]


def payload(row: Row) -> Row:
    """The event itself, without the schema that may stand before it."""
    value: Row = json.loads(row["value"])
    event: Row = value.get("payload", value)
    return event


def positions(rows: list[Row]) -> list[tuple[int, str]]:
    """Every event's place in LSN order, with what tells it from the others."""
    events = [(payload(row)["source"]["lsn"], masked(row)) for row in rows if row["value"]]
    ranks = {lsn: rank for rank, lsn in enumerate(sorted({lsn for lsn, _ in events}))}
    return sorted((ranks[lsn], repr(event)) for lsn, event in events)


def check_clocks(rows: list[Row]) -> None:
    """The three units of each clock agree."""
    for row in rows:
        if row["value"]:
            event = payload(row)
            source = event["source"]
            assert source["ts_ms"] == source["ts_us"] // 1000
            assert source["ts_ns"] == source["ts_us"] * 1000
            assert (event["ts_ms"], event["ts_us"], event["ts_ns"]) == (NOW_NS // 10**6, NOW_NS // 1000, NOW_NS)


@pytest.mark.parametrize("schemas", [False, True])
def test_one_topic_per_table_has_the_bytes_of_debezium(orders: list[TransactionPart], schemas: bool) -> None:
    """Guards against any byte that a Debezium consumer would not expect, also with a schema in each key and value."""
    spec = spec_for(
        topic="gold.${source.schema}.${source.table}", topic_prefix="gold", database="golddb",
        key_schemas=schemas, value_schemas=schemas,
    )  # fmt: skip
    # GIVEN the recording of orders.sql, and the same SQL read from a slot
    theirs, ours = recorded("orders_schemas.jsonl" if schemas else "orders.jsonl"), encoded(orders, spec)
    # THEN each topic holds the same records in the same order
    for topic in sorted({row["topic"] for row in theirs}):
        assert [masked(row) for row in ours if row["topic"] == topic] == [
            masked(row) for row in theirs if row["topic"] == topic
        ]
    assert len(ours) == len(theirs)
    assert positions(ours) == positions(theirs)
    check_clocks(ours)


def test_a_shared_topic_has_the_keys_and_bytes_of_debeziums_router(orders: list[TransactionPart]) -> None:
    """Guards against keys of two tables that would be merged by compaction."""
    spec = spec_for(topic="gold.all", topic_prefix="gold", database="golddb")
    assert spec.add_table_identifier
    theirs, ours = recorded("orders_router.jsonl"), encoded(orders, spec)
    for key in {masked(row)[1] for row in theirs}:
        assert [masked(row) for row in ours if masked(row)[1] == key] == [
            masked(row) for row in theirs if masked(row)[1] == key
        ]
    assert len(ours) == len(theirs)
    assert positions(ours) == positions(theirs)
