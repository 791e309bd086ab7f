"""The decoder against built messages, and against bytes nobody should send."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.errors import ProtocolViolation
from deltaforge.model import Lsn
from deltaforge.pgoutput.decoder import XLOG_HEADER, decode, decode_xlog
from deltaforge.pgoutput.messages import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Origin,
    PgOutput,
    RelationColumn,
    RelationMessage,
    Truncate,
    TypeMessage,
    Update,
)
from tests.support import pgoutput_bytes as wire
from tests.support.tables import column, table

TABLE = table(column("id", "int4", identity=True), column("ключ", "text"))
MESSAGES = {
    wire.begin(0x16B374D848, 1_700_000_000_123_456, 4_000_000_000): Begin(
        Lsn(0x16B374D848), 1_700_000_000_123_456, 4_000_000_000
    ),
    wire.commit(100, 148, 946_684_799_999_999): Commit(Lsn(100), Lsn(148), 946_684_799_999_999),
    wire.origin("näh", 77): Origin(Lsn(77), "näh"),
    wire.relation(TABLE): RelationMessage(
        16400, "public", "t", "d", (RelationColumn(True, "id", 23, -1), RelationColumn(False, "ключ", 25, -1))
    ),
    wire.type_(16500, "public", "mood"): TypeMessage(16500, "public", "mood"),
    wire.type_(16500, "", "mood"): TypeMessage(16500, "pg_catalog", "mood"),
    wire.insert(16400, ["1", None]): Insert(16400, (b"1", None)),
    wire.insert(16400, []): Insert(16400, ()),
    wire.update(16400, ["1", wire.UNSENT]): Update(16400, (b"1", UNCHANGED)),
    wire.update(16400, ["2", "x"], old=["1", None]): Update(16400, (b"2", b"x"), (b"1", None)),
    wire.update(16400, ["2", "x"], old=["1", "é"], old_kind="O"): Update(
        16400, (b"2", b"x"), (b"1", "é".encode()), whole=True
    ),
    wire.delete(16400, ["1", None]): Delete(16400, (b"1", None)),
    wire.delete(16400, ["1", "x"], old_kind="O"): Delete(16400, (b"1", b"x"), whole=True),
    wire.truncate([1, 2], cascade=True): Truncate((1, 2), True, False),
    wire.truncate([3], restart=True): Truncate((3,), False, True),
    wire.message("audit", b"\0\xff", 9, transactional=False): Message(False, Lsn(9), "audit", b"\0\xff"),
}


@pytest.mark.parametrize(("payload", "expected"), MESSAGES.items(), ids=lambda x: type(x).__name__)
def test_every_kind_of_message_is_read(payload: bytes, expected: PgOutput) -> None:
    """Guards against a field read at the wrong place or with the wrong width."""
    assert decode_xlog(payload) == expected


@pytest.mark.fault("D5")
@pytest.mark.parametrize("payload", MESSAGES, ids=lambda payload: payload[25:26].decode())
def test_a_message_cut_anywhere_or_with_a_byte_too_many_is_refused(payload: bytes) -> None:
    """Guards against a torn message that is taken for a shorter one."""
    data = payload[XLOG_HEADER:]
    for size in range(len(data)):
        with pytest.raises(ProtocolViolation):
            decode(data[:size])
    with pytest.raises(ProtocolViolation):
        decode(data + b"\0")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"S\0\0\0\1\1", b"I\0\0@\x10K\0\0", b"D\0\0@\x10N\0\0", b"I\0\0@\x10N\0\1b\0\0\0\1x",
        b"T\0\0\0\0\4", b"O\0\0\0\0\0\0\0\0\xff\0",
    ],
    ids=["empty", "streamed", "insert K", "delete N", "binary value", "flags", "not UTF-8"],
)  # fmt: skip
def test_what_version_one_in_text_mode_does_not_have_is_refused(data: bytes) -> None:
    """Guards against going on with a stream whose options are not ours."""
    with pytest.raises(ProtocolViolation):
        decode(data)


def test_an_error_never_shows_the_content() -> None:
    """Guards against row values in logs."""
    with pytest.raises(ProtocolViolation) as caught:
        decode(wire.insert(1, ["s3cret"])[XLOG_HEADER:-1])
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.fault("D5")
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_a_protocol_violation(data: bytes) -> None:
    """Guards against an actor that crashes with an unexplained error."""
    for read in (decode, decode_xlog):
        with suppress(ProtocolViolation):
            read(data)


@pytest.mark.fault("D5", "N7")
@given(st.sampled_from(list(MESSAGES)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4))
def test_mutated_messages_raise_nothing_but_a_protocol_violation(
    payload: bytes, changes: list[tuple[int, int]]
) -> None:
    """Guards against lengths and counts that are believed."""
    data = bytearray(payload[XLOG_HEADER:])
    for at, byte in changes:
        data[at % len(data)] = byte
    with suppress(ProtocolViolation):
        decode(bytes(data))
