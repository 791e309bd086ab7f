"""The replication protocol's frames: what the walsender puts into CopyData, and the status update we answer with.

Source: PostgreSQL documentation, "Streaming Replication Protocol". All integers are big-endian, clocks count
microseconds since 2000-01-01. Pure; the hot function is `survey`, called once per chunk.
"""

from __future__ import annotations

import struct

import msgspec

from deltaforge.errors import ProtocolViolation
from deltaforge.model import Lsn
from deltaforge.twin import compiled_module

XLOG_HEADER = 25
KEEPALIVE_SIZE = 18
POSTGRES_EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970."""

_XLOG, _KEEPALIVE = ord("w"), ord("k")
_RELATION, _COMMIT = ord("R"), ord("C")
_COMMIT_END = XLOG_HEADER + 10
_U64 = struct.Struct(">Q")
_CLOCK = struct.Struct(">q")
_STATUS = struct.Struct(">cQQQqB")
_twin = compiled_module("deltaforge._walk")


class Survey(msgspec.Struct, frozen=True):
    """What the reader has to know about a chunk before it sends it on."""

    relations: tuple[int, ...]
    """Indexes of the XLogData messages that hold a Relation."""
    reply_requested: bool
    received: Lsn
    """Highest WAL position the chunk shows; 0 when it is empty."""
    committed: Lsn
    """End LSN of the last COMMIT in it; 0 when there is none."""
    clock_us: int
    """Server clock of the last message, microseconds since 1970; 0 when the chunk is empty."""
    keepalives: int
    """How many of the messages are keepalives."""


def survey(messages: list[bytes]) -> Survey:
    """Look through a chunk of CopyData payloads.

    Raises:
      ProtocolViolation: a payload that is neither XLogData nor a keepalive, or is too short.
    """
    found = None if _twin is None else _twin.survey(messages)
    if found is not None:
        indexes, reply, received, committed, clock, keepalives = found
        return Survey(indexes, reply, Lsn(received), Lsn(committed), clock, keepalives)
    return survey_slowly(messages)


def survey_slowly(messages: list[bytes]) -> Survey:
    """`survey` in Python: it also says what is wrong."""
    relations: list[int] = []
    reply = False
    received = committed = clock = keepalives = 0
    message = b""
    try:
        for index, message in enumerate(messages):
            if message[0] == _XLOG:
                kind = message[XLOG_HEADER]
                if kind == _RELATION:
                    relations.append(index)
                elif kind == _COMMIT:
                    committed = _U64.unpack_from(message, _COMMIT_END)[0]
            elif message[0] == _KEEPALIVE and len(message) == KEEPALIVE_SIZE:
                reply = reply or message[17] != 0
                keepalives += 1
            else:
                raise ProtocolViolation(f"unknown replication frame {message[:1]!r} of {len(message)} bytes")
        if message:
            # Both frames: the position follows the letter. XLogData's clock is at 17, the keepalive's at 9.
            # A keepalive may name a lower one than the COMMIT before it.
            received = max(_U64.unpack_from(message, 1)[0], committed)
            clock = _CLOCK.unpack_from(message, 17 if message[0] == _XLOG else 9)[0] + POSTGRES_EPOCH_US
    except (IndexError, struct.error):
        raise ProtocolViolation(f"replication frame {message[:1]!r} of {len(message)} bytes is too short") from None
    return Survey(tuple(relations), reply, Lsn(received), Lsn(committed), clock, keepalives)


def idle(messages: list[bytes]) -> bool:
    """Is there nothing but keepalives?"""
    return all(message[0] == _KEEPALIVE for message in messages)


def telling(messages: list[bytes]) -> list[bytes]:
    """`messages` without the keepalives that something follows: what comes later reaches further.

    A server whose commits come one by one sends a keepalive after each; without them whole transactions stand side by
    side.
    """
    return [message for message in messages[:-1] if message[0] != _KEEPALIVE] + messages[-1:]


def agreed(messages: list[bytes], said: Lsn) -> tuple[Lsn, Lsn]:
    """Lower the keepalive that ends `messages`, if one does, to what the keepalive before it had `said`.

    Nothing in a keepalive tells a damaged position from a sound one. What two of them have reached, one of them sound,
    is reached.

    Returns:
      What this one says, for the next, and what is left of it; `said` twice when no keepalive is at the end.
    """
    last = messages[-1]
    if last[0] != _KEEPALIVE:
        return said, said
    says = Lsn(_U64.unpack_from(last, 1)[0])
    if says > said:
        messages[-1] = last[:1] + _U64.pack(said) + last[9:]
    return says, min(says, said)


def status_update(written: Lsn, flushed: Lsn, now_us: int, *, reply: bool = False) -> bytes:
    """A standby status update. `flushed` is also sent as applied; 0 says nothing. `now_us` counts since 1970."""
    return _STATUS.pack(b"r", written, flushed, flushed, now_us - POSTGRES_EPOCH_US, int(reply))
