"""Random tables and rows: always valid JSON with the values that went in, and one way of writing them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.envelopes.base import make_encoder, spec_for
from deltaforge.model import Lsn
from tests.support import pgoutput_bytes as wire
from tests.support.tables import column, numeric, part_of, table

pytestmark = pytest.mark.usefixtures("codec")

# JSON cannot hold lone surrogates, PostgreSQL no zero character.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300)
LONG = st.integers(200, 70_000).map(lambda size: "ab" * (size // 2))
VALUES: dict[str, st.SearchStrategy[str]] = {
    "int8": st.integers(-(2**63), 2**63 - 1).map(str),
    "text": TEXT | LONG,
    "json": TEXT,
    "bool": st.sampled_from("tf"),
    "bytea": st.binary(max_size=300).map(lambda data: "\\x" + data.hex()),
    "numeric": st.integers(-(10**20), 10**20).map(
        lambda n: f"{'-' if n < 0 else ''}{abs(n) // 100}.{abs(n) % 100:02d}"
    ),
    "float8": st.floats(allow_nan=False, allow_infinity=False).map(repr),
}


def read(kind: str, text: str | None, found: Any) -> bool:
    """Does the JSON value say what the text said?"""
    if text is None:
        return found is None
    match kind:
        case "int8":
            return bool(found == int(text))
        case "bool":
            return found is (text == "t")
        case "bytea":
            return base64.b64decode(found) == bytes.fromhex(text[2:])
        case "numeric":
            return int.from_bytes(base64.b64decode(found), "big", signed=True) == int(text.replace(".", ""))
        case "float8":
            return bool(found == float(text))
        case _:
            return bool(found == text)


# Twice, because the first row of each shape is written the ordinary way.
Case = tuple[list[str], list[list[str | None]]]


@st.composite
def rows(draw: st.DrawFn) -> Case:
    kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=6))
    one = st.tuples(*(st.none() | VALUES[kind] for kind in kinds)).map(list)
    return kinds, draw(st.lists(one, min_size=1, max_size=6))


@pytest.mark.fault("D1")
@given(rows(), st.booleans())
def test_any_row_is_valid_json_with_the_values_that_went_in(case: Case, key: bool) -> None:
    """Guards against an escape that is missing, and a length or NULL that is misread by the generated code."""
    # GIVEN a table of any columns and some rows of it
    kinds, given_rows = case[0], case[1] * 2
    names = [f'c{i}"\n' for i in range(len(kinds))]
    modifiers = {"numeric": numeric(22, 2)}
    columns = [column(name, kind, modifiers.get(kind, -1)) for name, kind in zip(names, kinds, strict=True)]
    relation = table(*columns, key=[0] if key and kinds else [])
    # WHEN they are inserted
    encoder = make_encoder(spec_for(topic="all", topic_prefix="p", database="d"))
    messages = [wire.insert(relation.oid, row, lsn) for lsn, row in enumerate(given_rows)]
    out = encoder.encode(part_of(messages, [relation]), 0, Lsn(0), 1)
    # THEN the JSON says the same
    assert len(out.values) == len(given_rows)
    for lsn, (row, value, name) in enumerate(zip(given_rows, out.values, out.keys, strict=True)):
        event = json.loads(value or b"")
        assert event["source"]["lsn"] == lsn
        assert list(event["after"]) == names
        for kind, text, found in zip(kinds, row, event["after"].values(), strict=True):
            assert read(kind, text, found)
        if relation.key:
            assert json.loads(name or b"")[names[0]] == event["after"][names[0]]
        else:
            assert name is None


@given(rows())
def test_generated_code_and_the_ordinary_way_give_the_same_bytes(case: Case) -> None:
    """Guards against two forms of one value, depending on what else is in the row."""
    kinds, given_rows = case[0], case[1] * 2
    columns = [column(f"c{i}", kind, {"numeric": numeric(22, 2)}.get(kind, -1)) for i, kind in enumerate(kinds)]
    relation = table(*columns, key=[0] if kinds else [], identity="f")
    encoder = make_encoder(spec_for(topic="all", topic_prefix="p", database="d"))
    # GIVEN the same row as an insert, which generated code writes, and as a delete, which it does not
    inserts = [wire.insert(relation.oid, row) for row in given_rows]
    deletes = [wire.delete(relation.oid, row, old_kind="O") for row in given_rows]
    new = encoder.encode(part_of(inserts, [relation]), 0, Lsn(0), 1)
    old = encoder.encode(part_of(deletes), 0, Lsn(0), 1)
    # THEN `after` of the one is `before` of the other, byte for byte, and the keys are equal
    for after, before in zip(new.values, old.values[::2], strict=True):
        assert after is not None
        assert before is not None
        row = after.partition(b'"after":')[2].partition(b',"source":{"version"')[0]
        assert before.startswith(b'{"before":' + row + b',"after":null,"source":')
    assert new.keys == old.keys[::2]
