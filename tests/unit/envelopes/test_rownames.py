"""Topics and keys that depend on the row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deltaforge.envelopes.base import Encoded, make_encoder, spec_for
from deltaforge.errors import OperatorError
from deltaforge.model import Lsn
from tests.support import pgoutput_bytes as wire
from tests.support.pgoutput_bytes import UNSENT
from tests.support.tables import column, numeric, part_of, table

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.usefixtures("codec")
ORDERS = table(
    column("id", "int8", identity=True, not_null=True),
    column("region", "text"),
    column("total", "numeric", numeric(12, 2)),
    column("paid", "bool"),
    name="orders",
)
ROW = ["7", "eu/west", "12.50", "t"]
OID = 16400


def encode(messages: Sequence[bytes], topic: str = "t.${source.table}", **settings: Any) -> Encoded:
    spec = spec_for(topic=topic, topic_prefix="gold", database="golddb", **settings)
    return make_encoder(spec).encode(part_of(messages, (ORDERS,)), 0, Lsn(0), 1)


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        ("orders.${after.region}", "orders.eu_west"),
        ("orders.${op}", "orders.c"),
        ("${source.schema}.${after.id}.${source.db}", "public.7.golddb"),
        ("orders.${after.paid}", "orders.true"),
        ("orders.${before.region}", "orders.eu_west"),
    ],
)
def test_a_field_stands_for_the_value_as_the_record_has_it(template: str, topic: str) -> None:
    """Guards against PostgreSQL's text where consumers see JSON, and against a name that Kafka refuses."""
    assert encode([wire.insert(OID, ROW)], template).topics == [topic]


def test_each_row_finds_its_own_topic() -> None:
    """Guards against generated code that writes the topic of its first row for all."""
    rows = [wire.insert(OID, [str(number), f"r{number}", "1.00", "f"]) for number in range(3)]
    encoded = encode(rows, "orders.${after.region}")
    assert encoded.topics == ["orders.r0", "orders.r1", "orders.r2"]
    assert encoded.keys == [b'{"id":%d,"__dbz__physicalTableIdentifier":"gold.public.orders"}' % id for id in range(3)]


def test_a_delete_and_its_tombstone_go_where_the_row_was() -> None:
    """Guards against a tombstone in another topic than the row it clears away."""
    encoded = encode([wire.delete(OID, ROW, old_kind="O")], "orders.${after.region}.${op}")
    assert encoded.topics == ["orders.eu_west.d"] * 2
    assert encoded.values[1] is None


def test_a_value_that_was_not_sent_is_what_the_record_has_for_it() -> None:
    """Guards against a pipeline that stops at each delete of a table with REPLICA IDENTITY DEFAULT."""
    assert encode([wire.delete(OID, ["7", None, None, None])], "orders.${after.region}").topics[0] == "orders.null"
    unsent = wire.update(OID, ["7", UNSENT, "1.00", "f"])
    assert encode([unsent], "orders.${after.region}").topics == ["orders.__debezium_unavailable_value"]


def test_a_change_of_the_key_has_two_topics() -> None:
    """Guards against a delete in the topic of the row that replaces it."""
    message = wire.update(OID, ["8", "us", "1.00", "f"], old=ROW, old_kind="O")
    encoded = encode([message], "orders.${after.region}.${before.id}")
    assert encoded.topics == ["orders.eu_west.7", "orders.eu_west.7", "orders.us.8"]


def test_both_rows_of_an_update_can_be_named() -> None:
    """Guards against `before` that means the new row although the old one is there."""
    message = wire.update(OID, ["7", "us", "1.00", "f"], old=ROW, old_kind="O")
    assert encode([message], "${before.region}.${after.region}").topics == ["eu_west.us"]


def test_a_key_template_is_plain_text() -> None:
    """Guards against JSON around a key that was written out, and against an identifier behind it."""
    encoded = encode(
        [wire.insert(OID, ["7", 'a"é/\N{GRINNING FACE}', "12.50", "t"])], key="${source.table}:${after.region}"
    )
    assert encoded.keys == ['orders:a"é/\N{GRINNING FACE}'.encode()]


def test_a_key_template_is_the_key_of_tombstones_too() -> None:
    """Guards against tombstones that clear nothing away."""
    encoded = encode([wire.delete(OID, ROW, old_kind="O")], key="${after.id}-${op}")
    assert encoded.keys == [b"7-d", b"7-d"]


def test_a_truncate_has_no_key_and_null_for_every_column() -> None:
    """Guards against a crash where there is no row."""
    encoded = encode([wire.truncate([OID])], "t.${op}.${after.id}", key="${after.id}", skipped_operations=())
    assert (encoded.topics, encoded.keys) == (["t.t.null"], [None])


def test_values_are_those_without_a_template() -> None:
    """Guards against a slow path with bytes of its own."""
    messages = [wire.insert(OID, ROW), wire.update(OID, ROW), wire.delete(OID, ROW, old_kind="O")]
    assert encode(messages, "x.${op}", key="${after.id}").values == encode(messages).values


def test_schemas_are_named_after_the_table() -> None:
    """Guards against a schema for every value of a column."""
    encoded = encode([wire.insert(OID, ROW)], "orders.${after.region}", value_schemas=True)
    assert json.loads(encoded.values[0] or b"")["schema"]["name"] == "gold.public.orders.Envelope"


@pytest.mark.parametrize(("topic", "key"), [("t.${after.regoin}", ""), ("t", "${before.regoin}")])
def test_a_column_that_records_do_not_have_is_named(topic: str, key: str) -> None:
    """Guards against an error that leaves the operator to guess which table and which template."""
    with pytest.raises(OperatorError, match=r'regoin.*public\.orders have no column "regoin"'):
        encode([wire.insert(OID, ROW)], topic, key=key)


@pytest.mark.parametrize("region", ["", "_deltaforge.pipeline.sink"])
def test_no_row_can_reach_a_topic_of_deltaforges_own(region: str) -> None:
    """Guards against a value from the outside that writes over a pipeline's position; the error does not repeat it."""
    with pytest.raises(OperatorError, match=r"public\.orders") as error:
        encode([wire.insert(OID, ["7", region, "1.00", "f"])], "${after.region}")
    assert "pipeline.sink" not in str(error.value)
