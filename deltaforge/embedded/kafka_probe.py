"""Ask a Kafka broker who is alive, without a client library: one Metadata request over a plain socket.

Protocol: Metadata version 1, request header version 1, response header version 0 (KIP-35 encodings, no tagged fields).
"""

from __future__ import annotations

import socket
import struct

from deltaforge.embedded.ports import HOST

_METADATA = 3
_VERSION = 1
_CORRELATION = 7
_CLIENT = b"deltaforge-probe"


def live_brokers(port: int) -> int:
    """How many brokers this one knows to be alive and led by a controller; 0 when it does not answer."""
    try:
        with socket.create_connection((HOST, port), timeout=2.0) as connection:
            connection.sendall(_request())
            (size,) = struct.unpack("!i", _exactly(connection, 4))
            return _brokers(_exactly(connection, size))
    except (OSError, struct.error):
        return 0


def _request() -> bytes:
    header = struct.pack("!hhih", _METADATA, _VERSION, _CORRELATION, len(_CLIENT)) + _CLIENT
    body = header + struct.pack("!i", 0)  # no topics
    return struct.pack("!i", len(body)) + body


def _brokers(body: bytes) -> int:
    correlation, count = struct.unpack_from("!ii", body)
    if correlation != _CORRELATION:
        return 0
    at = 8
    for _ in range(count):
        at += 4
        (host_size,) = struct.unpack_from("!h", body, at)
        at += 2 + host_size + 4
        (rack_size,) = struct.unpack_from("!h", body, at)
        at += 2 + max(rack_size, 0)
    (controller,) = struct.unpack_from("!i", body, at)
    return count if controller >= 0 else 0


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise ConnectionResetError("the broker closed the connection")
        parts += part
    return bytes(parts)
