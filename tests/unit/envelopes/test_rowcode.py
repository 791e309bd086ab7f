"""Generated code: that it is used where it should be, and what it keeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deltaforge.envelopes import rowcode
from deltaforge.envelopes.base import spec_for
from deltaforge.envelopes.plan import Plan
from deltaforge.envelopes.rowcode import Memo, RowWriter
from deltaforge.envelopes.shapes import shape_of
from tests.support import pgoutput_bytes as wire
from tests.support.tables import column, table

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE = table(column("id", "int8"), column("a", "text"), column("b", "text"), column("c", "int4"))
SPEC = spec_for(topic="all", topic_prefix="p", database="d")
SHAPED: dict[str, list[str | None]] = {
    "ssss": ["1", "x", "y", "2"],
    "snss": ["1", None, "y", "2"],
    "ssnn": ["1", "x", None, None],
    "nnns": [None, None, None, "2"],
    "nnnn": [None, None, None, None],
    "slss": ["1", "x" * 256, "y", "2"],
    "slls": ["1", "x" * 65_535, "y" * 300, "2"],
    "nlns": [None, "x" * 300, None, "2"],
    "ssln": ["1", "x" * 255, "y" * 256, None],
    "slnn": ["1", "n" * 512, None, None],
}


def write(writer: RowWriter, row: Sequence[wire.Value]) -> bytes:
    """The JSON of one inserted row, with nothing around it."""
    message = wire.insert(TABLE.oid, row, 7)
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    taken = writer.rows([message], 0, 1, message[25:33], "", "", "", keys.append, values.append)
    assert taken == 1
    assert values[0] is not None
    return values[0]


@pytest.mark.parametrize(("shape", "row"), SHAPED.items())
def test_a_shape_that_was_seen_once_never_takes_the_ordinary_way_again(
    shape: str, row: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against the quick way being lost without anybody noticing: the bytes would stay right."""
    plan = Plan(TABLE, SPEC)
    writer = RowWriter(plan)
    assert shape_of(row) == shape
    first = write(writer, row)
    monkeypatch.setattr(plan, "row", lambda _: pytest.fail("the ordinary way was taken"))
    assert write(writer, row) == first


@pytest.mark.parametrize("row", [["1", "x" * 65_536, "y", "2"], ["1", wire.UNSENT, "y", "2"]], ids=["huge", "unsent"])
def test_rows_without_a_shape_are_written_the_ordinary_way(row: list[wire.Value]) -> None:
    """Guards against a length read in two bytes where it has three."""
    writer = RowWriter(Plan(TABLE, SPEC))
    assert write(writer, row) == write(writer, row)


def test_shapes_that_look_alike_are_told_apart() -> None:
    """Guards against a text that ends in the letters which mean NULL."""
    writer = RowWriter(Plan(TABLE, SPEC))
    rows: list[list[wire.Value]] = [
        ["1", "n", None, "2"],
        ["1", None, "n", "2"],
        ["1", "nt", None, "2"],
        [None, "t", "n", "2"],
    ]
    for _ in range(2):
        for row in rows:
            _, a, b, _ = row
            shown = [b"null" if text is None else f'"{text}"'.encode() for text in (a, b)]
            assert b'"a":%b,"b":%b,' % tuple(shown) in write(writer, row)


@given(
    st.text(
        st.sampled_from("{}'\"\\\n()%$;N#= ä😀") | st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    )
)
@example("{1/0}")
@example("'''+str(1/0)+'''")
@example('"\nraise SystemExit\n"')
@example("\\N{DIGIT ONE}{{names}}")
def test_no_name_of_a_column_is_taken_for_code(name: str) -> None:
    """Guards against a column whose name runs in our process, and one that changes the names beside it."""
    named = table(column(f"id{name}", "int8"), column(f"a{name}", "text"), column(f"b{name}", "text"))
    writer = RowWriter(Plan(named, SPEC))

    for row in (["1", "x", "y"], ["1", None, "y"], ["1", "x", None]):
        for _ in range(2):
            text = write(writer, row).decode().removeprefix('{"before":null,"after":')
            shown, _ = json.JSONDecoder().raw_decode(text)
            assert shown == {f"id{name}": 1, f"a{name}": row[1], f"b{name}": row[2]}


def test_the_number_of_compiled_shapes_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against memory that grows with every new pattern of NULLs in a wide table."""
    monkeypatch.setattr(rowcode, "SHAPES_LIMIT", 2)
    plan = Plan(TABLE, SPEC)
    writer = RowWriter(plan)
    for row in SHAPED.values():
        write(writer, row)
    # THEN the third shape that is not all short goes on taking the ordinary way
    monkeypatch.setattr(plan, "row", lambda _: "ordinary")
    ways = [b"ordinary" in write(writer, row) for row in SHAPED.values()]
    assert ways == [False] * 3 + [True] * (len(SHAPED) - 3)


def test_a_memo_forgets_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against memory that grows with the number of different values."""
    monkeypatch.setattr(rowcode, "MEMO_LIMIT", 3)
    memo = Memo(str.upper)
    assert [memo[letter] for letter in "abcdabcd"] == list("ABCDABCD")
    assert len(memo) <= 3
