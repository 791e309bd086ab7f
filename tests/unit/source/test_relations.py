"""Relation messages and their facts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.errors import ProtocolViolation
from deltaforge.model import Column, PgType, Relation
from deltaforge.source import relations
from deltaforge.source.frames import XLOG_HEADER
from tests.support import pgoutput_bytes as build

INT4 = PgType(23, "int4")
TEXT = PgType(25, "text")
ORDERS = Relation(
    16_400,
    "public",
    "orders",
    "d",
    (Column("id", INT4, -1, True, True, None), Column("náme", TEXT, 44, False, False, "'x'::text")),
    (0,),
)
FACTS = relations.RelationFacts(
    {"id": relations.ColumnFacts(True, None), "náme": relations.ColumnFacts(False, "'x'::text")}, ("id",)
)


def test_message_and_facts_make_the_relation() -> None:
    """A default or NOT NULL that ends up on another column."""
    announced = relations.parse_relation(build.relation(ORDERS), XLOG_HEADER)

    assert relations.build_relation(announced, FACTS, {23: INT4, 25: TEXT}) == ORDERS


@pytest.mark.fault("G10")
@pytest.mark.parametrize("key", [(), ("id", "added_later"), ("renamed",), ("náme",)], ids=str)
def test_a_row_keeps_the_primary_key_that_it_had(key: tuple[str, ...]) -> None:
    """A row that is read after its table was dropped, or got another key, would go to another partition."""
    announced = relations.parse_relation(build.relation(ORDERS), XLOG_HEADER)

    assert relations.build_relation(announced, relations.RelationFacts(FACTS.columns, key), {}).key == (0,)


def test_the_columns_of_a_key_stand_in_the_order_of_its_index() -> None:
    """Keys that no consumer has seen before."""
    columns = tuple(msgspec.structs.replace(column, identity=True) for column in ORDERS.columns)
    announced = relations.parse_relation(build.relation(msgspec.structs.replace(ORDERS, columns=columns)), XLOG_HEADER)

    assert relations.build_relation(announced, relations.RelationFacts({}, ("náme", "id")), {}).key == (1, 0)


@pytest.mark.parametrize("identity", ["f", "i", "n"])
def test_a_dropped_key_column_leaves_no_key_rather_than_half_of_one(identity: str) -> None:
    """Rows of different keys would meet under one."""
    table = msgspec.structs.replace(ORDERS, identity=identity)
    announced = relations.parse_relation(build.relation(table), XLOG_HEADER)
    facts = relations.RelationFacts(FACTS.columns, ("id", "added_later"))

    assert relations.build_relation(announced, facts, {}).key == ()


def test_a_vanished_type_is_named_unknown() -> None:
    """A table whose type was dropped since ends the stream."""
    announced = relations.parse_relation(build.relation(ORDERS), XLOG_HEADER)

    column = relations.build_relation(announced, relations.RelationFacts(), {}).columns[0]

    assert (column.type.oid, column.type.name, column.not_null) == (23, "unknown_23", False)


def test_a_domain_over_a_domain_is_resolved_to_its_base_and_modifier() -> None:
    """numeric(6,2) read as numeric."""
    rows = {
        1700: relations.TypeRow(1700, "numeric", "b", "pg_catalog", 0, 0, -1),
        500: relations.TypeRow(500, "price", "d", "public", 0, 1700, 393_222),
        501: relations.TypeRow(501, "net_price", "d", "public", 0, 500, -1),
        502: relations.TypeRow(502, "_price", "b", "public", 500, 0, -1),
    }

    types = relations.build_types(rows)

    assert types[501].base == PgType(1700, "numeric")
    assert types[501].base_modifier == 393_222
    assert types[502].element == types[500]
    assert types[502].base is None


def test_a_type_made_of_an_enum_is_told_from_others() -> None:
    """A label that was added yesterday, missing in the schemas of tables that are announced today."""
    rows = {
        23: relations.TypeRow(23, "int4", "b", "pg_catalog", 0, 0, -1),
        1007: relations.TypeRow(1007, "_int4", "b", "pg_catalog", 23, 0, -1),
        600: relations.TypeRow(600, "mood", "e", "public", 0, 0, -1, ["ok", "bad"]),
        601: relations.TypeRow(601, "_mood", "b", "public", 600, 0, -1),
        602: relations.TypeRow(602, "good_mood", "d", "public", 0, 600, -1),
        603: relations.TypeRow(603, "_good_mood", "b", "public", 602, 0, -1),
    }

    types = relations.build_types(rows)

    assert types[600].labels == ("ok", "bad")
    assert {oid for oid, kind in types.items() if relations.has_labels(kind)} == {600, 601, 602, 603}


@given(st.integers(0, 80))
def test_a_cut_message_is_a_violation(length: int) -> None:
    """An IndexError that looks like a bug of ours."""
    message = build.relation(ORDERS)[XLOG_HEADER:]
    if length < len(message):
        with pytest.raises(ProtocolViolation):
            relations.parse_relation(message[:length], 0)
