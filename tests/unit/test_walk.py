"""The compiled loops over messages and keys give what their Python forms give, also for bytes that make no sense."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge import runs
from deltaforge.errors import ProtocolViolation
from deltaforge.sinks.kafka.partition import partitions_slowly
from deltaforge.source.frames import Survey, survey_slowly
from tests.support.streams import Planned, messages, plans

if TYPE_CHECKING:
    from collections.abc import Callable

_EDITS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60), st.integers(0, 255), st.booleans()), max_size=3)


def damaged(stream: list[bytes], edits: list[tuple[int, int, int, bool]]) -> list[bytes]:
    """`stream` with some bytes changed and some messages cut short."""
    out = list(stream)
    for number, at, byte, short in edits:
        if out:
            message = bytearray(out[number % len(out)])
            if short:
                del message[at:]
            elif at < len(message):
                message[at] = byte
            out[number % len(out)] = bytes(message)
    return out


@given(plan=plans(), edits=_EDITS, at=st.integers(0, 30), most=st.integers(0, 50))
def test_whole_transactions_are_found_alike(
    walk: Any, plan: list[Planned], edits: list[tuple[int, int, int, bool]], at: int, most: int
) -> None:
    """Guards against a run that the compiled form begins or ends elsewhere."""
    stream = damaged(messages(plan), edits)
    at = min(at, len(stream))
    assert walk.whole(stream, at, most) == runs.whole(stream, at, most)
    assert walk.plain_rows(stream, at) == runs.plain_rows(stream, at)


@given(plan=plans(), edits=_EDITS)
def test_a_chunk_is_surveyed_alike(walk: Any, plan: list[Planned], edits: list[tuple[int, int, int, bool]]) -> None:
    """Guards against a Relation, a request or a COMMIT that the compiled form overlooks."""
    stream = damaged(messages(plan), edits)
    found = walk.survey(stream)
    if found is None:
        with pytest.raises(ProtocolViolation):
            survey_slowly(stream)
    else:
        assert Survey(*found) == survey_slowly(stream)


@given(keys=st.lists(st.none() | st.binary(max_size=40), max_size=30), count=st.integers(1, 100))
def test_keys_find_the_same_partition(walk: Any, keys: list[bytes | None], count: int) -> None:
    """Guards against keys that move when the compiled form is built."""
    assert walk.partitions(keys, count, 7 % count) == partitions_slowly(keys, count, unkeyed=repeat(7))


@pytest.mark.parametrize(
    "call", [lambda w: w.whole([1], 0, 5), lambda w: w.survey(["w"]), lambda w: w.partitions([1], 3, 0)]
)
def test_what_is_no_bytes_is_refused(walk: Any, call: Callable[[Any], object]) -> None:
    """Guards against reading memory that is no message."""
    with pytest.raises(TypeError):
        call(walk)
