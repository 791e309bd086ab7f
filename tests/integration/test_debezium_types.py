"""Every column type in every mode that Debezium has, compared with recordings of the same SQL (tests/data/debezium)."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.envelopes.base import EncoderSpec, make_encoder, spec_for
from deltaforge.envelopes.options import ValueOptions
from tests.recorder.script import Script, parse
from tests.support.databases import create_database, drop_database
from tests.support.slot_reader import read_slot, transactions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltaforge.embedded.postgres import PostgresServer
    from deltaforge.model import TransactionPart

DATA = Path(__file__).parent.parent / "data" / "debezium"
pytestmark = pytest.mark.usefixtures("codec")
NOW_NS = 1_795_417_206_093_123_456
SCRIPTS = ("types", "modes", "extensions", "vectors", "edges")
NAMES = {
    "decimal.handling.mode": "decimal",
    "time.precision.mode": "time",
    "interval.handling.mode": "interval",
    "hstore.handling.mode": "hstore",
    "binary.handling.mode": "binary",
    "money.fraction.digits": "money_digits",
    "include.unknown.datatypes": "unknown",
    "unavailable.value.placeholder": "placeholder",
    "value.converter.replace.null.with.default": "null_defaults",
    "key.converter.schemas.enable": "key_schemas",
    "value.converter.schemas.enable": "value_schemas",
    "column.exclude.list": "columns_excluded",
}
BESIDE = {"key_schemas", "value_schemas", "columns_excluded"}
"""Those that are not about single values."""
READ = {"true": True, "false": False, "0": 0, "4": 4}
DIFFERENT = (
    # A moment of the run.
    (re.compile(r'"20(?:2[6-9]|[3-9]\d)-\d\d-\d\dT[\d:.]+Z"'), '"NOW"'),
    (re.compile(r'\{"year":20(?:2[6-9]|[3-9]\d),[^{}]*\}'), '"NOW"'),
    # Debezium reads dates before the year 1 as dates after it when they stand in an array.
    (re.compile(r'"d":\[null,(?:-703383|-735160|"-?004[34]-03-15Z"|\{"year":-?4[34],[^{}]*\})\]'), '"d":"BC"'),
    # Debezium writes null for a time zone that has seconds.
    (re.compile(r'"tz":(?:null|"15:59:59\.000001Z")'), '"tz":"ODD"'),
    # A label that is added to an enum along the way: which reading of the catalog sees it is a matter of time.
    (re.compile(r'(?<="allowed":"sad,it\'s \\"ok\\",a,b),new(?=")'), ""),
    (re.compile(r'("(?:ts_[mun]s|lsn|txId)":)\d+'), r"\1N"),
    (re.compile(r'\\"\d+\\"'), r'\\"N\\"'),
)
"""What differs from run to run, and where Debezium's value is not the row's."""

Record = tuple[str | None, str | None, tuple[tuple[str, str], ...]]
"""Key, value and headers."""


@cache
def script(name: str) -> Script:
    return parse(name, (DATA / f"{name}.sql").read_text())


RECORDINGS = [
    (name, recording)
    for name in SCRIPTS
    for recording in script(name).recordings
    if (DATA / f"{recording}.jsonl").exists()
]


@pytest.fixture(scope="module")
def streams(postgres15: PostgresServer, postgres18: PostgresServer) -> dict[str, list[TransactionPart]]:
    """The transactions of each file of SQL, from the slots of a real PostgreSQL of the file's version."""
    servers = {15: postgres15, 18: postgres18}
    found = {}
    for name in SCRIPTS:
        database = create_database(servers[script(name).postgres])
        try:
            database.execute(script(name).before)
            database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [database.name])
            for block in script(name).transactions:
                database.execute(block)
            found[name] = transactions(database, read_slot(database, database.name, "pub"))
        finally:
            drop_database(database)
    return found


def spec_of(options: Mapping[str, str]) -> EncoderSpec:
    """Our settings of the same meaning as a recording's."""
    settings: dict[str, Any] = {NAMES[name]: READ.get(value, value) for name, value in options.items()}
    beside = {name: settings.pop(name) for name in BESIDE & settings.keys()}
    return spec_for(
        topic="gold.${source.schema}.${source.table}", topic_prefix="gold", database="golddb",
        values=ValueOptions(**settings), **beside,
    )  # fmt: skip


def masked(text: str | None) -> str | None:
    """A key or value without what may differ."""
    if text is None:
        return None
    for pattern, mask in DIFFERENT:
        text = pattern.sub(mask, text)
    return text


def recorded(name: str) -> dict[str, list[Record]]:
    """The streamed records of each topic."""
    found: dict[str, list[Record]] = {}
    for line in (DATA / f"{name}.jsonl").read_text().splitlines():
        row = json.loads(line)
        if not row["value"] or '"op":"r"' not in row["value"]:
            headers = tuple((key, text) for key, text in row["headers"] if not key.startswith("__debezium.context."))
            found.setdefault(row["topic"], []).append((masked(row["key"]), masked(row["value"]), headers))
    return found


def encoded(parts: list[TransactionPart], encoder: Any) -> dict[str, list[Record]]:
    """Our records of each topic."""
    found: dict[str, list[Record]] = {}
    for part in parts:
        out = encoder.encode(part, 0, part.previous_end, NOW_NS)
        for topic, key, value, headers in zip(out.topics, out.keys, out.values, out.headers, strict=True):
            sent = tuple((name, content.decode()) for name, content in headers or ())
            record = (masked(key and key.decode()), masked(value and value.decode()), sent)
            found.setdefault(topic, []).append(record)
    return found


@pytest.mark.fault("D2", "D3")
@pytest.mark.parametrize(("name", "recording"), RECORDINGS)
def test_every_type_has_the_bytes_of_debezium(
    streams: dict[str, list[TransactionPart]], name: str, recording: str
) -> None:
    """Guards against a value, a default, a fallback or a placeholder that a Debezium consumer would not expect."""
    options = dict(script(name).recordings[recording])
    excluded = {f"gold.{table}" for table in options.pop("table.exclude.list", "").split(",")}
    numbers = options.pop("value.converter.decimal.format", "") == "NUMERIC"
    spec = spec_of(options)
    theirs = recorded(recording)
    ours = encoded(streams[name], make_encoder(spec))
    assert sorted(ours.keys() - excluded) == sorted(theirs)
    for topic, records in theirs.items():
        if not (numbers and topic.rpartition(".")[2] in ("nums", "arrs", "defs", "notnulls")):
            assert ours[topic] == records, topic
