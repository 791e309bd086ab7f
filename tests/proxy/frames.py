"""Kafka's requests and answers as they lie in a stream. Pure.

A frame is an int32 with the size of what follows. A request begins with its api key, the api's version and a
correlation id; an answer with the correlation id of its request. Correlation ids are unique within one connection.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

_LARGEST = 256 * 1024 * 1024
_SIZE = struct.Struct("!i")
_REQUEST = struct.Struct("!hhi")


class Api(IntEnum):
    """The requests that rules can name."""

    Produce = 0
    Fetch = 1
    ListOffsets = 2
    Metadata = 3
    FindCoordinator = 10
    ApiVersions = 18
    InitProducerId = 22
    AddPartitionsToTxn = 24
    EndTxn = 26
    DescribeCluster = 60


@dataclass(frozen=True)
class Request:
    """One request as a client sent it."""

    api_key: int
    version: int
    correlation_id: int
    connection: int
    """Number of the connection it came by."""
    frame: bytes
    """All of it, size included."""


class NotKafka(ValueError):
    """The bytes are no frames; perhaps the listener is encrypted."""


class Frames:
    """Cuts a stream into frames, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the frames they complete, sizes included. Raises NotKafka."""
        self._buffer += data
        found, at = [], 0
        while (size := self._size(at)) is not None and at + size <= len(self._buffer):
            found.append(bytes(self._buffer[at : at + size]))
            at += size
        del self._buffer[:at]
        return found

    def rest(self) -> bytes:
        """What is left of a frame that never came to its end."""
        left = bytes(self._buffer)
        self._buffer.clear()
        return left

    def _size(self, at: int) -> int | None:
        if len(self._buffer) - at < _SIZE.size:
            return None
        (size,) = _SIZE.unpack_from(self._buffer, at)
        if not _SIZE.size <= size <= _LARGEST:
            raise NotKafka(f"a frame of {size} bytes")
        return _SIZE.size + int(size)


def request(frame: bytes, connection: int) -> Request:
    """The request in a frame. Raises NotKafka when it is too short for one."""
    if len(frame) < _SIZE.size + _REQUEST.size:
        raise NotKafka(f"a request of {len(frame)} bytes")
    api_key, version, correlation = _REQUEST.unpack_from(frame, _SIZE.size)
    return Request(api_key, version, correlation, connection, frame)


def correlation_id(frame: bytes) -> int:
    """Which request an answer belongs to."""
    return int(_SIZE.unpack_from(frame, _SIZE.size)[0])


def end_txn_error(answer: bytes) -> int:
    """The error code in the answer to an EndTxn request of version 0 to 2; 0 = none."""
    return int(struct.unpack_from("!ih", answer, 2 * _SIZE.size)[1])
