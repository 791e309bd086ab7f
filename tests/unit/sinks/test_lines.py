"""Records as JSON lines."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from deltaforge.envelopes.base import Encoded
from deltaforge.sinks.lines import lines

contents = (
    st.none()
    | st.binary(max_size=20)
    | st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ).map(lambda value: json.dumps(value, indent=1).encode())
)
headers = st.none() | st.lists(st.tuples(st.text(max_size=5), contents.map(lambda c: c or b"")), max_size=1)


def shown(content: bytes | None) -> object:
    """What a line shows for these bytes."""
    if content is None:
        return None
    try:
        return json.loads(content, parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return {"base64": base64.b64encode(content).decode()}


@given(st.lists(st.tuples(st.text(max_size=5), contents, contents, headers), max_size=5))
def test_every_record_is_one_line_that_says_what_it_held(
    records: list[tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]] | None]],
) -> None:
    """Guards readers of the file sink: a line break or odd bytes in a value must not tear a record."""
    topics, keys, values, heads = ([record[n] for record in records] for n in range(4))
    made = lines(Encoded(topics, keys, values, heads, 0, 0))  # type: ignore[arg-type]
    found = [json.loads(line) for line in made.decode().split("\n")[:-1]]
    assert len(found) == len(records)
    for line, (topic, key, value, head) in zip(found, records, strict=True):
        expected = {"topic": topic, "key": shown(key), "value": shown(value)}
        assert line == expected | ({"headers": {n: shown(c) for n, c in head}} if head else {})
