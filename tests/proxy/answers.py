"""Answers with an error code, as a broker would give them to librdkafka's requests. Pure.

Each is made from the request alone, in its own version; a version that librdkafka 2.16 does not send is refused.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.proxy.frames import Api

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.frames import Request

_HEAD = 12
"""Size, api key, version and correlation id."""
_NOTHING = b""


class Unknown(ValueError):
    """No answer to such a request, or to this version of it, can be made here."""


class _Fields:
    """Reads a request's fields. Flexible versions have lengths as varints, one higher, and tags behind everything."""

    def __init__(self, request: Request, *, flexible: bool) -> None:
        self._data, self._at, self.flexible = request.frame, _HEAD, flexible
        (length,) = self._take("!h")
        self._at += max(0, length)
        self.tags()

    def _take(self, form: str) -> tuple[int, ...]:
        found = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return found

    def number(self, form: str) -> int:
        """One number, `form` as struct has it."""
        return self._take("!" + form)[0]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def text(self) -> bytes:
        """A string; null reads as an empty one."""
        length = max(0, self._varint() - 1 if self.flexible else self.number("h"))
        self._at += length
        return self._data[self._at - length : self._at]

    def skip_bytes(self) -> None:
        """Bytes that are of no interest."""
        self._at += max(0, self._varint() - 1 if self.flexible else self.number("i"))

    def count(self) -> int:
        """How many elements an array has."""
        return self._varint() - 1 if self.flexible else self.number("i")

    def tags(self) -> None:
        """The tagged fields at the end of a structure; librdkafka sends hardly any."""
        for _ in range(self._varint() if self.flexible else 0):
            self._varint()
            self._at += self._varint()


def _count(number: int, flexible: bool) -> bytes:
    if number + 1 > 0x7F:
        raise Unknown(f"an array or a text of {number}")
    return bytes([number + 1]) if flexible else struct.pack("!i", number)


def _text(value: bytes, flexible: bool) -> bytes:
    if not flexible:
        return struct.pack("!h", len(value)) + value
    if len(value) + 1 > 0x3FFF:
        raise Unknown(f"a text of {len(value)}")
    length = len(value) + 1
    return (bytes([length]) if length < 0x80 else bytes([length & 0x7F | 0x80, length >> 7])) + value


def _array(parts: list[bytes], flexible: bool) -> bytes:
    return _count(len(parts), flexible) + b"".join(parts)


def _end(flexible: bool) -> bytes:
    """No tagged fields."""
    return b"\0" if flexible else _NOTHING


def _end_txn(request: Request, code: int, flexible: bool) -> bytes:
    return struct.pack("!ih", 0, code) + _end(flexible)


def _init_producer_id(request: Request, code: int, flexible: bool) -> bytes:
    return struct.pack("!ihqh", 0, code, -1, -1) + _end(flexible)


def _find_coordinator(request: Request, code: int, flexible: bool) -> bytes:
    words = struct.pack("!h", -1) if request.version else _NOTHING
    head = struct.pack("!ih", 0, code) if request.version else struct.pack("!h", code)
    return head + words + struct.pack("!i", -1) + _text(b"", flexible) + struct.pack("!i", -1)


def _add_partitions(request: Request, code: int, flexible: bool) -> bytes:
    fields = _Fields(request, flexible=flexible)
    fields.text()
    fields.number("q")
    fields.number("h")
    topics = []
    for _ in range(fields.count()):
        name = fields.text()
        numbers = [fields.number("i") for _ in range(fields.count())]
        answers = [struct.pack("!ih", number, code) for number in numbers]
        topics.append(_text(name, flexible) + _array(answers, flexible))
    return struct.pack("!i", 0) + _array(topics, flexible)


def _produce(request: Request, code: int, flexible: bool) -> bytes:
    fields = _Fields(request, flexible=flexible)
    fields.text()
    fields.number("h")
    fields.number("i")
    topics = []
    for _ in range(fields.count()):
        name, partitions = fields.text(), []
        for _ in range(fields.count()):
            partitions.append(_of_partition(request.version, fields.number("i"), code, flexible))
            fields.skip_bytes()
            fields.tags()
        fields.tags()
        topics.append(_text(name, flexible) + _array(partitions, flexible) + _end(flexible))
    return _array(topics, flexible) + struct.pack("!i", 0) + _end(flexible)


def _of_partition(version: int, number: int, code: int, flexible: bool) -> bytes:
    body = struct.pack("!ihqq", number, code, -1, -1)
    if version >= 5:
        body += struct.pack("!q", -1)
    if version >= 8:
        # Single records at fault, and words about it: none.
        body += _array([], flexible) + (b"\0" if flexible else struct.pack("!h", -1))
    return body + _end(flexible)


_MAKERS: dict[Api, tuple[Callable[[Request, int, bool], bytes], int, int, int]] = {
    # api: what makes the body, oldest and newest version, first flexible version
    Api.Produce: (_produce, 3, 10, 9),
    Api.FindCoordinator: (_find_coordinator, 0, 2, 3),
    Api.InitProducerId: (_init_producer_id, 0, 4, 2),
    Api.AddPartitionsToTxn: (_add_partitions, 0, 2, 3),
    Api.EndTxn: (_end_txn, 0, 3, 3),
}


def error_answer(request: Request, code: int) -> bytes:
    """The frame of an answer in which everything that was asked for has this error code.

    Raises:
      Unknown: of this request or version nothing is known.
    """
    try:
        make, oldest, newest, flexible_from = _MAKERS[Api(request.api_key)]
    except (KeyError, ValueError):
        raise Unknown(f"api {request.api_key}") from None
    if not oldest <= request.version <= newest:
        raise Unknown(f"version {request.version} of {Api(request.api_key).name}")
    flexible = request.version >= flexible_from
    body = struct.pack("!i", request.correlation_id) + _end(flexible) + make(request, code, flexible)
    return struct.pack("!i", len(body)) + body


def stand_in(request: Request) -> bytes:
    """A harmless request with the same correlation id: its answer takes the place of the one that never comes."""
    body = struct.pack("!hhih", Api.ApiVersions, 0, request.correlation_id, -1)
    return struct.pack("!i", len(body)) + body
