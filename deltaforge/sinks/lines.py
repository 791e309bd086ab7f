"""Records as JSON lines: what the file sink and the stdout sink write. Pure.

One record is one line: {"topic", "key", "value", "headers"}. Keys, values and header values that are JSON appear as
that JSON, byte for byte as it would go to Kafka; other bytes appear as {"base64": "..."}; null is null. `headers` is an
object, present only when there are any.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from deltaforge.envelopes.base import Encoded


def lines(encoded: Encoded) -> bytes:
    """All records of `encoded`, a line each."""
    out = bytearray()
    rows = zip(encoded.topics, encoded.keys, encoded.values, encoded.headers, strict=True)
    for topic, key, value, headers in rows:
        out += b'{"topic":' + msgspec.json.encode(topic)
        out += b',"key":' + _json(key) + b',"value":' + _json(value)
        if headers:
            out += b',"headers":{'
            out += b",".join(msgspec.json.encode(name) + b":" + _json(content) for name, content in headers)
            out += b"}"
        out += b"}\n"
    return bytes(out)


def _json(content: bytes | None) -> bytes:
    if content is None:
        return b"null"
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b'{"base64":"' + base64.b64encode(content) + b'"}'
    # A line break between tokens is legal JSON, but would end our line.
    return content.replace(b"\n", b" ").replace(b"\r", b" ")
