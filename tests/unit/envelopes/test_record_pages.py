"""The pages on records and column types show what is written: every example on them is tried."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest

from deltaforge.config.debezium import DebeziumOptions
from deltaforge.envelopes import options as modes
from deltaforge.envelopes.base import Encoded, make_encoder, spec_for
from deltaforge.envelopes.heartbeat import heartbeat_of
from deltaforge.envelopes.options import ValueOptions
from deltaforge.envelopes.values import rendering
from deltaforge.model import Lsn, PgType
from tests.support import pgoutput_bytes as wire
from tests.support.pages import PAGES, blocks
from tests.support.tables import OIDS, column, numeric, part_of, table

PAGE = PAGES["docs/reference/column-types.md"]
MORE_OIDS = {
    '"char"': 18, "point": 600, "lseg": 601, "path": 602, "box": 603, "line": 628, "cidr": 650, "circle": 718,
    "macaddr8": 774, "macaddr": 829, "int4range": 3904, "char": 1042, "smallint": 21, "integer": 23, "bigint": 20,
    "boolean": 16, "real": 700, "double precision": 701, "bit varying": 1562, "daterange": 3912, "tstzrange": 3910,
    "pg_lsn": 3220,
}  # fmt: skip
EXTENSIONS = ("hstore", "citext", "ltree", "isbn", "geometry", "geography", "vector", "halfvec", "sparsevec")
NAMES = {
    "decimal.handling.mode": "decimal", "time.precision.mode": "time", "interval.handling.mode": "interval",
    "hstore.handling.mode": "hstore", "binary.handling.mode": "binary", "money.fraction.digits": "money_digits",
    "include.unknown.datatypes": "unknown", "unavailable.value.placeholder": "placeholder",
}  # fmt: skip
READ: dict[str, Any] = {"true": True, "4": 4}


def pg_type(name: str) -> tuple[PgType, int]:
    """A type as SQL writes it, and its type modifier."""
    if name.endswith("[]"):
        element, modifier = pg_type(name[:-2])
        return PgType(100_000 + element.oid, f"_{element.name}", "b", "pg_catalog", element), modifier
    match = re.fullmatch(r"([^()]+?)(?:\((\d+)(?:,(\d+))?\))?", name)
    assert match is not None, name
    bare, first, second = match.groups()
    modifier = -1 if first is None else int(first)
    if bare == "numeric" and first is not None:
        modifier = numeric(int(first), int(second or 0))
    if bare == "enum":
        return PgType(90_001, bare, "e", "public", labels=("ok", "sad")), modifier
    if bare in EXTENSIONS:
        return PgType(90_002 + EXTENSIONS.index(bare), bare, "b", "public"), modifier
    return PgType({**OIDS, **MORE_OIDS}[bare], bare), modifier


def rows(*header: str) -> list[tuple[str, ...]]:
    """The rows of all tables of the page with exactly this header, without the marks of code."""
    found: list[tuple[str, ...]] = []
    lines = iter(PAGE.splitlines())
    for line in lines:
        if line == f"| {' | '.join(header)} |":
            next(lines)
            for row in lines:
                if not row.startswith("| "):
                    break
                cells = re.split(r"(?<!\\)\|", row)[1:-1]
                found.append(tuple(cell.strip().strip("`").replace("\\|", "|") for cell in cells))
    return found


def written(kind: str, text: str, **options: Any) -> str:
    form = rendering(*pg_type(kind), ValueOptions(**options))
    assert form is not None, kind
    return form.convert(text.encode().decode("latin-1")).encode("latin-1").decode()


def value_of(option: str, value: str) -> dict[str, Any]:
    return {NAMES[option]: READ.get(value, value)}


@pytest.mark.parametrize(("kind", "text", "json"), rows("type", "PostgreSQL prints", "JSON"))
def test_an_example_is_what_is_written(kind: str, text: str, json: str) -> None:
    """Guards against a page that tells how it once was."""
    assert written(kind, text) == json


@pytest.mark.parametrize(
    ("option", "value", "kind", "text", "json"), rows("option", "value", "type", "PostgreSQL prints", "JSON")
)
def test_an_example_of_an_option_is_what_is_written(option: str, value: str, kind: str, text: str, json: str) -> None:
    """Guards against a value of an option that does something else."""
    assert written(kind, text, **value_of(option, value)) == json


@pytest.mark.parametrize(("kind", "json"), rows("NOT NULL column", "stands for NULL"))
def test_a_fallback_is_what_is_written(kind: str, json: str) -> None:
    """Guards against the wrong zero of a type."""
    form = rendering(*pg_type(kind), ValueOptions())
    assert form is not None
    assert form.fallback == json


@pytest.mark.parametrize(("kind", "json"), rows("type", "not sent"))
def test_a_placeholder_is_what_is_written(kind: str, json: str) -> None:
    """Guards against a placeholder that consumers do not know."""
    form = rendering(*pg_type(kind), ValueOptions())
    assert form is not None
    assert form.unavailable == json


def test_every_value_of_the_options_has_an_example() -> None:
    """Guards against a mode that the page forgets."""
    shown = {(option, value) for option, value, *_ in rows("option", "value", "type", "PostgreSQL prints", "JSON")}
    choices = {
        "decimal.handling.mode": modes.DecimalMode, "time.precision.mode": modes.TimeMode,
        "interval.handling.mode": modes.IntervalMode, "hstore.handling.mode": modes.HstoreMode,
        "binary.handling.mode": modes.BinaryMode,
    }  # fmt: skip
    every = {(option, value) for option, mode in choices.items() for value in get_args(mode)}
    assert every <= shown
    assert {option for option, _ in shown} <= set(DebeziumOptions.__struct_encode_fields__)


# -- whole records

NOW_NS = 1_795_417_206_060_302_614
ORDERS = table(
    column("id", "int8", identity=True, not_null=True),
    column("status", "text", not_null=True),
    column("total", "numeric", numeric(12, 2)),
    column("note", "text"),
    name="orders",
)
INSERT = wire.insert(ORDERS.oid, ["7", "paid", "12.50", None], 30843560)


def encoded(message: bytes, topic: str = "shop.${source.schema}.${source.table}", **settings: Any) -> Encoded:
    spec = spec_for(topic=topic, topic_prefix="shop", database="shopdb", message_topic="shop.message", **settings)
    return make_encoder(spec).encode(part_of([message], [ORDERS]), 0, Lsn(30843500), NOW_NS)


def same(shown: int, record: bytes | None) -> None:
    """A block of the page is the record, but for white space."""
    page = json.loads(blocks("json")[f"docs/reference/records.md json {shown}"])
    assert json.dumps(page) == json.dumps(json.loads(record or b""))


def test_keys_and_values_are_as_shown() -> None:
    """Guards against a page that promises fields nobody writes, or another order of them."""
    plain, shared = encoded(INSERT), encoded(INSERT, "orders")
    same(1, plain.keys[0])
    same(2, shared.keys[0])
    same(3, plain.values[0])
    same(9, encoded(INSERT, key_schemas=True).keys[0])


def test_a_cloud_event_is_as_shown() -> None:
    """Guards against attributes that the page does not have, or has otherwise."""
    same(10, encoded(INSERT, cloudevents_type_prefix="com.example.cdc").values[0])


def test_the_records_beside_changes_are_as_shown() -> None:
    """Guards against the same for messages, transactions and heartbeats."""
    same(4, encoded(wire.message("audit", b"one", 30843560)).values[0])
    told = encoded(INSERT, transaction_topic="shop.transaction")
    assert told.topics == ["shop.transaction", "shop.public.orders", "shop.transaction"]
    same(5, json.dumps(json.loads(told.values[1] or b"")["transaction"]).encode())
    same(6, told.values[0])
    same(7, told.values[2])
    assert told.keys[0] == b'{"id":"738:30843560"}'
    beats = heartbeat_of(spec_for(topic="t", topic_prefix="shop", database="d", heartbeat_topic="h", heartbeat_ms=1))
    assert beats is not None
    same(8, beats.record(NOW_NS).values[0])
