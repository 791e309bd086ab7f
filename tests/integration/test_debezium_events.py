"""What a live Debezium writes beside rows, reproduced from the same SQL: logical messages and transaction metadata."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from deltaforge.envelopes.base import make_encoder, spec_for
from deltaforge.envelopes.options import ValueOptions
from deltaforge.model import LogicalMessage, TransactionPart
from tests.support.databases import Database, create_database, drop_database
from tests.support.slot_reader import items, read_slot

if TYPE_CHECKING:
    from deltaforge.embedded.postgres import PostgresServer

DATA = Path(__file__).parent.parent / "data" / "debezium"
NOW_NS = 1_795_417_206_093_123_456
TABLES = "gold.${source.schema}.${source.table}"

Item = TransactionPart | LogicalMessage
Row = tuple[str, str | None, str | None]
RANDOM_UUID = re.compile(r'"id":"(?!00000000|6f1c1f0e)[0-9a-f-]{36}"')


@pytest.fixture(scope="module")
def streams(postgres15: PostgresServer) -> dict[str, list[Item]]:
    """What the slot of a real PostgreSQL 15 holds after each of the files of SQL."""
    found: dict[str, list[Item]] = {}
    for name in ("orders", "messages"):
        database = create_database(postgres15)
        try:
            run_script(database, (DATA / f"{name}.sql").read_text())
            found[name] = list(items(database, read_slot(database, database.name, "pub")))
        finally:
            drop_database(database)
    return found


def run_script(database: Database, script: str) -> None:
    """Schema and first rows, then a slot, then one transaction per `-- TX` block."""
    before, _, stream = script.partition("-- STREAM\n")
    database.execute(before)
    database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [database.name])
    for block in stream.split("-- TX\n"):
        database.execute(block)


def written(stream: list[Item], hidden: str = "", **settings: Any) -> list[Row]:
    """Our records under `settings`; the table `hidden` is not selected."""
    settings = {"message_topic": "gold.message"} | settings
    encoder = make_encoder(spec_for(topic=TABLES, topic_prefix="gold", database="golddb", **settings))
    rows: list[Row] = []
    for item in stream:
        if isinstance(item, LogicalMessage):
            out = encoder.encode_message(item, NOW_NS)
        else:
            replace = msgspec.structs.replace
            known = tuple(replace(relation, selected=relation.table != hidden) for relation in item.relations)
            out = encoder.encode(replace(item, relations=known), 0, item.previous_end, NOW_NS)
        assert out.nbytes == sum(len(x or b"") for x in [*out.keys, *out.values])
        for topic, key, value in zip(out.topics, out.keys, out.values, strict=True):
            rows.append((topic, _text(key), _text(value)))
    return rows


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()


def recorded(name: str) -> list[Row]:
    """The streamed records of a recording."""
    lines = map(json.loads, (DATA / name).read_text().splitlines())
    rows: list[Row] = [(line["topic"], line["key"], line["value"]) for line in lines]
    return [row for row in rows if '"op":"r"' not in (row[2] or "")]


def masked(row: Row) -> Row:
    """A record without what differs from run to run."""
    topic, key, value = row
    return topic, key and _masked(key), value and _masked(value)


def _masked(text: str) -> str:
    text = re.sub(r'("(?:ts_[mun]s|lsn|txId)":)\d+', r"\1N", text)
    text = re.sub(r'"id":"\d+:\d+"', '"id":"X:N"', text)
    text = re.sub(r'\\"\d+\\"', r'\\"N\\"', text)
    text = RANDOM_UUID.sub('"id":"RANDOM"', text)
    # A message's collection is named after an address of the Java machine, which decides its place in the list too.
    if "MessageId@" in text:
        names = sorted(re.findall(r'\{"data_collection":"[^}]*\}', re.sub("MessageId@[0-9a-f]+", "MessageId@", text)))
        text = re.sub(r'("data_collections":\[).*?\](?=,"ts_ms")', lambda at: at[1] + ",".join(names) + "]", text)
    return text


def places(rows: list[Row]) -> list[tuple[Any, ...]]:
    """What the ids of each transaction say: whether BEGIN and END stand right at and behind its records."""
    found: dict[str, list[tuple[int, str]]] = {}
    for topic, _, value in rows:
        body = json.loads(value) if value else {}
        body = body.get("payload", body)
        place = body.get("transaction") or body
        if "id" in place:
            xid, _, lsn = place["id"].partition(":")
            found.setdefault(xid, []).append((int(lsn), body.get("status", topic)))
            if "source" in body:
                assert (int(xid), int(lsn)) == (body["source"]["txId"], body["source"]["lsn"])
    shapes = []
    for ids in found.values():
        begin, end = (next(lsn for lsn, what in ids if what == status) for status in ("BEGIN", "END"))
        rest = [lsn for lsn, what in ids if what not in ("BEGIN", "END")]
        shapes.append((len(rest), begin == min(rest, default=begin), end > max(rest, default=begin)))
    return sorted(shapes)


CASES: dict[str, dict[str, Any]] = {
    "orders_options": {
        "skipped_operations": (), "tombstones": False, "transaction_topic": "gold.transaction",
        "values": ValueOptions(decimal="string", time="connect"),
    },
    "messages": {},
    "messages_tx": {"transaction_topic": "gold.transaction", "hidden": "hidden"},
    "messages_tx_schemas": {
        "skipped_operations": (), "transaction_topic": "gold.transaction", "key_schemas": True, "value_schemas": True,
    },
    "messages_hex": {
        "transaction_topic": "gold.deals", "values": ValueOptions(binary="hex"), "messages_excluded": "noise",
        "tombstones": False,
    },
}  # fmt: skip


@pytest.mark.fault("G19")
@pytest.mark.parametrize("name", CASES)
def test_what_stands_beside_rows_has_the_bytes_of_debezium(streams: dict[str, list[Item]], name: str) -> None:
    """Guards against any byte, count or place in a transaction that a Debezium consumer would not expect."""
    # GIVEN a recording, and the same SQL read from a slot
    theirs = recorded(f"{name}.jsonl")
    ours = written(streams[name.partition("_")[0]], **CASES[name])
    # THEN each topic holds the same records in the same order
    for topic in sorted({topic for topic, _, _ in theirs}):
        assert [masked(row) for row in ours if row[0] == topic] == [masked(row) for row in theirs if row[0] == topic]
    assert len(ours) == len(theirs)
    # AND the ids of each transaction stand to each other as theirs do
    assert places(ours) == places(theirs)
