"""Streams that are almost right: a valid one with a few bytes, lengths or messages that are not."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.support import pgdraws

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

LENGTHS = (0, 1, 2, 127, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32 - 6, 2**32 - 1)
COUNTS = (0, 1, 2, 255, 256, 32_767, 32_768, 65_535)
MARKS = b"KONtnubIUDTMRYOBCwk\0\xff"


def stream(r: Random) -> pgdraws.Stream:
    """A valid stream, damaged in half of the cases."""
    found = pgdraws.stream(r, 4)
    if r.random() < 0.5:
        for _ in range(r.choice((1, 1, 1, 2, 4))):
            if found.payloads:
                r.choice(_STREAM if r.random() < 0.25 else (_message,))(found.payloads, r)
    return found


def _message(payloads: list[bytes], r: Random) -> None:
    at = r.randrange(len(payloads))
    message = bytearray(payloads[at])
    if message:
        r.choice(_BYTES)(message, r)
    payloads[at] = bytes(message)


def _flip(message: bytearray, r: Random) -> None:
    message[r.randrange(len(message))] ^= 1 << r.randrange(8)


def _mark(message: bytearray, r: Random) -> None:
    """Another letter where pgoutput has one: the tag, the tuple's mark, a value's kind."""
    places = [at for at, byte in enumerate(message) if at >= 25 and byte in b"KONtnuIUD"] or [0]
    message[r.choice((25, r.choice(places))) % len(message)] = r.choice(MARKS)


def _cut(message: bytearray, r: Random) -> None:
    del message[r.randint(0, len(message)) :]


def _grow(message: bytearray, r: Random) -> None:
    message += bytes(r.choices(b"\0nut\xff", k=r.randint(1, 40)))


def _length(message: bytearray, r: Random) -> None:
    """Another length of a value: pgoutput's are four bytes after a t."""
    places = [at + 1 for at, byte in enumerate(message[:-4]) if byte == 0x74] or [min(26, len(message))]
    at = r.choice(places)
    now = int.from_bytes(message[at : at + 4], "big")
    wanted = r.choice((*LENGTHS, now - 1, now + 1, now + 256, now ^ 1 << 31)) & 0xFFFFFFFF
    message[at : at + 4] = struct.pack(">I", wanted)[: len(message) - at]


def _count(message: bytearray, r: Random) -> None:
    """Another number of columns, or whatever stands there."""
    at = r.choice((31, r.randrange(len(message)))) % len(message)
    message[at : at + 2] = struct.pack(">H", r.choice(COUNTS))[: len(message) - at]


def _position(message: bytearray, r: Random) -> None:
    """A position or a clock at the ends of 64 bits."""
    at = r.choice((1, 26, 27, 34, 35)) % len(message)
    edge = r.choice((0, 1, 2**63 - 1, 2**63, 2**64 - 1, r.getrandbits(64)))
    message[at : at + 8] = struct.pack(">Q", edge)[: len(message) - at]


def _repeat(payloads: list[bytes], r: Random) -> None:
    payloads.insert(r.randint(0, len(payloads)), r.choice(payloads))


def _drop(payloads: list[bytes], r: Random) -> None:
    del payloads[r.randrange(len(payloads))]


def _swap(payloads: list[bytes], r: Random) -> None:
    a, b = r.randrange(len(payloads)), r.randrange(len(payloads))
    payloads[a], payloads[b] = payloads[b], payloads[a]


def _splice(payloads: list[bytes], r: Random) -> None:
    """The head of one message and the tail of another."""
    a, b = r.choice(payloads), r.choice(payloads)
    at = r.randint(0, min(len(a), len(b)))
    payloads[r.randrange(len(payloads))] = a[:at] + b[at:]


def _noise(payloads: list[bytes], r: Random) -> None:
    noise = bytes(r.getrandbits(8) for _ in range(r.choice((0, 1, 24, 25, 26, 27, 60))))
    payloads.insert(r.randint(0, len(payloads)), r.choice((b"", b"w", b"k")) + noise)


_BYTES: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip, _flip, _flip, _mark, _cut, _grow, _length, _length, _count, _position,
)  # fmt: skip
_STREAM: tuple[Callable[[list[bytes], Random], None], ...] = (_repeat, _drop, _swap, _splice, _noise)
