"""The frames of the replication protocol."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.errors import ProtocolViolation
from deltaforge.model import Lsn
from deltaforge.source import frames
from tests.support import pgoutput_bytes as build


def test_survey_names_relations_replies_and_the_last_commit() -> None:
    """A Relation without its facts, an unanswered keepalive, a drain that waits for the wrong position."""
    row = build.insert(1, ["x"], 0x20)
    messages = [
        build.begin(0x30),
        build.xlog(b"R"),
        row,
        build.commit(0x30, 0x38),
        build.keepalive(0x40, True),
        build.xlog(b"R", 0x44),
    ]

    survey = frames.survey(messages)

    assert survey.relations == (1, 5)
    assert survey.reply_requested
    assert survey.committed == 0x38
    assert survey.received == 0x44


def test_only_keepalives_that_something_follows_are_left_out() -> None:
    """Guards the position an idle stream shows, and the rows between keepalives."""
    first, second = build.keepalive(0x10), build.keepalive(0x20)
    row = build.insert(7, ["k"], 0x18)
    assert frames.survey([first, row, second]).keepalives == 2
    assert frames.telling([first, row, second]) == [row, second]
    assert frames.telling([first, second]) == [second]
    assert frames.telling([first, second, row]) == [row]
    assert frames.telling([row]) == [row]
    assert frames.idle([first, second])
    assert not frames.idle([first, row, second])


def test_a_keepalive_says_no_more_than_the_one_before_it_has_said() -> None:
    """Guards against a position that one damaged byte made: PostgreSQL would be told to forget what lies below it."""
    row, far = build.insert(7, ["k"], 0x18), 0x40 << 56
    ends = []
    said = Lsn(0)
    for end in (0x20, 0x20, far, 0x30, 0x28, 0x30):
        messages = [row, build.keepalive(end)]
        said, believed = frames.agreed(messages, said)
        assert said == end
        assert messages == [row, build.keepalive(believed)]
        ends.append(believed)
    assert ends == [0, 0x20, 0x20, 0x30, 0x28, 0x28]
    # What ends with something else says nothing.
    messages = [build.keepalive(far), row]
    assert frames.agreed(messages, said) == (said, said)
    assert messages == [build.keepalive(far), row]


def test_survey_reads_both_clocks() -> None:
    """A lag in seconds that is off by thirty years, or by a field."""
    data = build.xlog(b"I", clock_us=5_000_000)
    keepalive = struct.pack(">cQqB", b"k", 9, 7_000_000, 0)

    assert frames.survey([keepalive, data]).clock_us == 946_684_805_000_000
    assert frames.survey([data, keepalive]).clock_us == 946_684_807_000_000


def test_a_row_that_contains_the_letters_of_frames_is_still_a_row() -> None:
    """Matching letters at the wrong offset."""
    survey = frames.survey([build.insert(ord("R"), ["RCk"], 1), build.insert(7, ["w" * 18], 2)])

    assert survey.relations == ()
    assert survey.committed == 0


@pytest.mark.fault("D5")
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_survey_raises_nothing_but_protocol_violations(messages: list[bytes]) -> None:
    """A malformed frame that looks like a bug of ours."""
    with contextlib.suppress(ProtocolViolation):
        frames.survey(messages)


def test_an_unknown_frame_is_refused() -> None:
    """Silently skipping what a newer server sends."""
    with pytest.raises(ProtocolViolation, match="unknown replication frame"):
        frames.survey([b"x" * 30])


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(946_684_800_000_000, 2**62), st.booleans())
def test_status_update_has_the_documented_layout(written: int, flushed: int, now_us: int, reply: bool) -> None:
    """A confirmation in the wrong field discards WAL."""
    packed = frames.status_update(Lsn(written), Lsn(flushed), now_us, reply=reply)

    assert len(packed) == 34
    assert packed[:1] == b"r"
    assert struct.unpack(">QQQqB", packed[1:]) == (written, flushed, flushed, now_us - 946_684_800_000_000, reply)
