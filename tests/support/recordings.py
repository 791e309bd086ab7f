"""Recordings of a live Debezium as tests compare with them: read, masked, in order. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tests.recorder.script import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.recorder.script import Script

DATA = Path(__file__).resolve().parents[1] / "data" / "debezium"
_CONTEXT = "__debezium.context."
_RUN = (
    (re.compile(r'"20(?:2[6-9]|[3-9]\d)-\d\d-\d\dT[\d:.]+Z"'), '"NOW"'),
    # The same in parts.
    (re.compile(r'\{"year":20(?:2[6-9]|[3-9]\d),[^{}]*\}'), '"NOW"'),
    (re.compile(r'("(?:ts_[mun]s|lsn|txId)":)\d+'), r"\1N"),
    (re.compile(r'"id":"\d+:\d+"'), '"id":"X:N"'),
    (re.compile(r'\\"\d+\\"'), r'\\"N\\"'),
    (re.compile(r'"id":"(?!00000000|6f1c1f0e)[0-9a-f-]{36}"'), '"id":"RANDOM"'),
    (re.compile(r"MessageId@[0-9a-f]+"), "MessageId@"),
)
"""What differs from run to run."""
_WRONG = (
    # Dates before the year 1 are read as dates after it when they stand in an array.
    (re.compile(r'"d":\[null,(?:-703383|-735160|"-?004[34]-03-15Z"|\{"year":-?4[34],[^{}]*\})\]'), '"d":"BC"'),
    # A time zone that has seconds is written as null.
    (re.compile(r'"tz":(?:null|"15:59:59\.000001Z")'), '"tz":"ODD"'),
)
"""Where Debezium's value is not the row's."""


@dataclass(frozen=True, slots=True)
class Line:
    """One record: as it stands in a recording, and as it came from a topic."""

    topic: str
    partition: int | None
    key: str | None
    value: str | None
    headers: tuple[tuple[str, str], ...]


Compared: TypeAlias = tuple[Any, ...]


def script(name: str) -> Script:
    """The SQL of a file of recordings."""
    return parse(name, (DATA / f"{name}.sql").read_text())


def recorded(name: str) -> list[Line]:
    """The streamed records of a recording; the first read of the tables is left out."""
    lines = []
    for text in (DATA / f"{name}.jsonl").read_text().splitlines():
        row = json.loads(text)
        if not row["value"] or '"op":"r"' not in row["value"]:
            headers = tuple((key, value) for key, value in row["headers"] if not key.startswith(_CONTEXT))
            lines.append(Line(row["topic"], row.get("partition"), row["key"], row["value"], headers))
    return lines


def by_place(lines: Iterable[Line], *, partitions: bool) -> dict[tuple[str, int | None], list[Compared]]:
    """The masked records of each topic, or of each partition, in their order."""
    found: dict[tuple[str, int | None], list[Compared]] = {}
    for line in lines:
        place = (line.topic, line.partition if partitions and line.key is not None else None)
        found.setdefault(place, []).append(masked(line))
    return found


def masked(line: Line) -> Compared:
    """A record without what may differ. A null stays a null."""
    return _masked(line.key), _masked(line.value), line.headers


def _masked(text: str | None) -> str | None:
    if text is None:
        return None
    for pattern, mask in (*_WRONG, *_RUN):
        text = pattern.sub(mask, text)
    # A message's collection is named after an address in the Java machine, which decides its place in the list too.
    if "MessageId@" in text:
        names = sorted(re.findall(r'\{"data_collection":"[^}]*\}', text))
        text = re.sub(r'("data_collections":\[).*?\](?=,"ts_ms")', lambda at: at[1] + ",".join(names) + "]", text)
    return text


def event_of(line: Line) -> Mapping[str, Any]:
    """The event itself, without the schema that may stand before it; empty for a tombstone."""
    body: dict[str, Any] = json.loads(line.value) if line.value else {}
    event: dict[str, Any] = body.get("payload", body)
    return event


def lsn_order(lines: Iterable[Line]) -> list[tuple[int, str]]:
    """Every event's place in LSN order, with what tells it from the others."""
    events = [
        (event["source"]["lsn"], repr((line.topic, masked(line))))
        for line in lines
        if "source" in (event := event_of(line))
    ]
    ranks = {lsn: rank for rank, lsn in enumerate(sorted({lsn for lsn, _ in events}))}
    return sorted((ranks[lsn], event) for lsn, event in events)


def check_clocks(lines: Iterable[Line]) -> None:
    """The units of a clock agree, and `sequence` ends in the record's LSN."""
    for line in lines:
        event = event_of(line)
        if source := event.get("source"):
            assert source["ts_us"] // 1000 == source["ts_ms"]
            assert source["ts_ns"] == source["ts_us"] * 1000
            assert int(json.loads(source["sequence"])[1]) == source["lsn"]
            if "ts_ns" in event:
                assert (event["ts_ms"], event["ts_us"]) == (event["ts_ns"] // 10**6, event["ts_ns"] // 1000)
