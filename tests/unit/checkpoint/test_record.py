"""Checkpoint records: what is written is read, everything else is refused."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.checkpoint.record import STATES, decode, encode
from deltaforge.errors import Refused
from deltaforge.model import Anchor, Checkpoint, Lsn, Position, Progress, TopicMark

lsns = st.integers(0, 2**64 - 1).map(Lsn)
anchors = st.builds(
    Anchor, lsns, st.integers(0, 2**32 - 1), st.integers(-(2**62), 2**62), st.none() | st.integers(0, 2**32 - 1)
)
progresses = st.builds(Progress, st.builds(Position, lsns, st.integers(-9, 2**40)), st.none() | anchors, lsns, lsns)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
marks = st.builds(TopicMark, texts, texts, st.lists(st.integers(0, 2**62), max_size=3).map(tuple))
checkpoints = st.builds(
    Checkpoint,
    st.sampled_from(STATES),
    texts,
    st.integers(1, 2**31),
    *[texts] * 5,
    st.integers(0, 2**53),
    progresses,
    st.lists(marks, max_size=2).map(tuple),
)
EXAMPLE = Checkpoint(
    "running", "7301", 2, "shop", "cdc", "pub", "f00d", "a1b2", 17,
    Progress(Position(Lsn(0x16B374D848), 4), Anchor(Lsn(0x16B374D848), 731, 1_700_000_000_000_001), Lsn(1), Lsn(2)),
    (TopicMark("cdc.orders", "65XpkgWsRWiS4Y4Hum575A", (3, 0)),),
)  # fmt: skip


def signed(body: dict[str, object]) -> bytes:
    head = json.dumps(body, separators=(",", ":")).encode()[:-1]
    return head + b',"crc32":"%08x"}' % zlib.crc32(head)


@given(checkpoints)
def test_what_is_written_is_read_again(checkpoint: Checkpoint) -> None:
    """Guards every field: one that is lost here is a position forgotten at the next start."""
    key, value = encode(checkpoint)
    assert key == checkpoint.state.encode()
    assert decode(key, value) == checkpoint
    assert b"\n" not in value


@pytest.mark.fault("C4")
def test_the_format_of_version_1_stays_as_it_is() -> None:
    """Guards records written by released versions; change the version, never this text."""
    assert json.loads(encode(EXAMPLE)[1]) == {
        "version": 1,
        "state": "running",
        "system_id": "7301",
        "timeline": 2,
        "database": "shop",
        "slot": "cdc",
        "publication": "pub",
        "options": "f00d",
        "instance": "a1b2",
        "seq": 17,
        "commit_lsn": "16/B374D848",
        "event_index": 4,
        "anchor": {"lsn": "16/B374D848", "xid": 731, "commit_time_us": 1700000000000001, "message_crc": None},
        "last_commit_end_lsn": "0/1",
        "flush_lsn": "0/2",
        "topics": [{"topic": "cdc.orders", "topic_id": "65XpkgWsRWiS4Y4Hum575A", "high_watermarks": [3, 0]}],
        "crc32": "dba50147",
    }


@pytest.mark.fault("K11")
@given(st.integers(0), st.integers(0, 7))
def test_any_flipped_bit_is_refused(at: int, bit: int) -> None:
    """Guards against going on from a damaged position."""
    key, value = encode(EXAMPLE)
    damaged = bytearray(value)
    damaged[at % len(value)] ^= 1 << bit
    with pytest.raises(Refused):
        decode(key, bytes(damaged))


@pytest.mark.fault("K11")
@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_is_raised(value: bytes) -> None:
    """Guards against a crash loop when somebody else writes to the topic."""
    with pytest.raises(Refused):
        decode(b"running", value)


@pytest.mark.parametrize(
    "body",
    [{}, {"version": 1}, {"version": "x"}, {"version": 1, "state": "running", "flush_lsn": 5}],
)
def test_signed_but_foreign_json_is_refused(body: dict[str, object]) -> None:
    """Guards the fields themselves: a right checksum does not make a checkpoint."""
    with pytest.raises(Refused, match="not those of a checkpoint"):
        decode(b"running", signed(body))


@pytest.mark.parametrize("field", ["commit_lsn", "flush_lsn", "last_commit_end_lsn"])
def test_a_field_that_is_no_lsn_is_refused(field: str) -> None:
    """Guards the parser of LSNs behind a right checksum."""
    body = json.loads(encode(EXAMPLE)[1]) | {field: "nowhere"}
    del body["crc32"]
    with pytest.raises(Refused):
        decode(b"running", signed(body))


@pytest.mark.fault("K11", "C4")
def test_a_newer_version_is_named_as_such() -> None:
    """Guards a downgrade: the operator must learn that the program is too old, not that the record is damaged."""
    with pytest.raises(Refused, match="format version 2") as refused:
        decode(b"running", signed({"version": 2, "anything": []}), where='checkpoint topic "c" offset 12')
    assert 'topic "c" offset 12' in refused.value.line()


@pytest.mark.fault("C4")
def test_unknown_fields_of_this_version_are_ignored() -> None:
    """Guards additions that do not matter to older programs."""
    body = json.loads(encode(EXAMPLE)[1]) | {"remark": "later"}
    del body["crc32"]
    assert decode(b"running", signed(body)) == EXAMPLE


@pytest.mark.parametrize("key", [None, b"born", b"Running", b"\xff"])
def test_a_record_under_a_wrong_key_is_refused(key: bytes | None) -> None:
    """Guards compaction: under a wrong key an older record would survive a newer one."""
    with pytest.raises(Refused, match="do not fit"):
        decode(key, encode(EXAMPLE)[1])
