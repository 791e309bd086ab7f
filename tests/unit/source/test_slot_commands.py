"""Replication commands: quoted so that no name can leave its quotes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.errors import ProtocolViolation
from deltaforge.model import Lsn, TimelineSwitch
from deltaforge.source import slot

_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63)
_nasty = st.text("'\"\\ ;,)(-a", min_size=1, max_size=20)


def _unquote_literal(text: str) -> tuple[str, str]:
    """Read one literal at the start as the replication grammar does; return it and what follows."""
    match = re.match(r"'((?:[^']|'')*)'(?!')", text, re.DOTALL)
    assert match is not None
    return match[1].replace("''", "'"), text[match.end() :]


def _unquote_identifier(text: str) -> tuple[str, str]:
    match = re.match(r'"((?:[^"]|"")*)"(?!")', text, re.DOTALL)
    assert match is not None
    return match[1].replace('""', '"'), text[match.end() :]


@given(_names | _nasty, _names | _nasty)
def test_names_come_back_out_of_start_replication(name: str, publication: str) -> None:
    """A publication called `p', two_phase 'on` turns on an option."""
    command = slot.start_command(name, publication, server_version=180000)

    rest = command.removeprefix("START_REPLICATION SLOT ")
    read_slot, rest = _unquote_identifier(rest)
    before, rest = rest.split("publication_names ", 1)
    value, rest = _unquote_literal(rest)
    read_publication, tail = _unquote_identifier(value)

    assert read_slot == name
    assert before == " LOGICAL 0/0 (proto_version '1', "
    assert (read_publication, tail) == (publication, "")
    assert rest == ", messages 'true')"


@given(_names | _nasty)
def test_identifier_and_literal_are_undone_by_reading_them(name: str) -> None:
    """A quote that is not doubled."""
    assert _unquote_identifier(slot.identifier(name)) == (name, "")
    assert _unquote_literal(slot.literal(name)) == (name, "")


@pytest.mark.parametrize("text", ["a\0b", "\0"])
def test_nul_is_refused(text: str) -> None:
    """A C string that ends early drops the rest of a command, closing quote included."""
    with pytest.raises(ValueError, match="NUL"):
        slot.identifier(text)
    with pytest.raises(ValueError, match="NUL"):
        slot.literal(text)


@pytest.mark.parametrize(
    ("version", "failover", "expected"),
    [
        (140000, True, 'CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput NOEXPORT_SNAPSHOT'),
        (160000, True, 'CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput NOEXPORT_SNAPSHOT'),
        (170000, False, 'CREATE_REPLICATION_SLOT "s" LOGICAL pgoutput NOEXPORT_SNAPSHOT'),
        (170000, True, "CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput (SNAPSHOT 'nothing', FAILOVER true)"),
    ],
)
def test_failover_is_asked_for_only_where_it_exists(version: int, failover: bool, expected: str) -> None:
    """A syntax error on older servers."""
    assert slot.create_command("s", failover=failover, server_version=version) == expected


def test_the_start_position_is_always_left_to_the_server() -> None:
    """An LSN above the slot's skips data without a word."""
    assert " LOGICAL 0/0 (" in slot.start_command("s", "p", server_version=140000)


def test_logical_messages_are_asked_for_since_14() -> None:
    """An unknown option ends the stream on 13."""
    assert "messages" not in slot.start_command("s", "p", server_version=130000)


def test_fingerprint_tells_publications_apart() -> None:
    """A changed publication in mid-transaction goes unnoticed."""
    assert slot.options_fingerprint("a") != slot.options_fingerprint("b")


def test_history_is_read_oldest_first() -> None:
    """A failover judged by the wrong line."""
    content = b"1\t0/3000158\tno recovery target specified\n\n# a comment\n2\t16/B374D848\tbefore 2000-01-01\n"

    assert slot.parse_history(content) == (
        TimelineSwitch(1, Lsn(0x3000158)),
        TimelineSwitch(2, Lsn.parse("16/B374D848")),
    )


def test_an_unreadable_history_is_a_violation() -> None:
    """Going on as if there had been no failover."""
    with pytest.raises(ProtocolViolation):
        slot.parse_history(b"one 0/0\n")
