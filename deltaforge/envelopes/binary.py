"""Bytes and bits: `bytea`, columns of unknown types, bit strings, and the bytes of the placeholder."""

from __future__ import annotations

import re
from binascii import b2a_base64, unhexlify
from functools import partial
from typing import TYPE_CHECKING

from deltaforge.envelopes.jsontext import quote, wire
from deltaforge.envelopes.renderings import Rendering, no_default

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.options import BinaryMode, ValueOptions

_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]?")


def placeholder(options: ValueOptions) -> bytes:
    """What stands for an unsent value; `hex:` in front of the option gives the bytes themselves.

    Raises ValueError when no hex digits follow `hex:`.
    """
    text = options.placeholder
    return unhexlify(text[4:]) if text.startswith("hex:") else text.encode()


def placeholder_json(options: ValueOptions) -> str:
    """The placeholder as a JSON string, with U+FFFD for what is no UTF-8."""
    # Java puts one in place of a surrogate's three bytes, Python three. No UTF-8 holds a byte 255.
    data = _SURROGATE.sub(b"\xff", placeholder(options))
    return quote(wire(data.decode(errors="replace")))


def base64(data: bytes) -> str:
    """A JSON string of base64, with padding and without line breaks."""
    return f'"{b2a_base64(data, newline=False).decode("latin-1")}"'


def base64_url_safe(data: bytes) -> str:
    """As `base64`, with `-` and `_` in place of `+` and `/`."""
    return base64(data).replace("+", "-").replace("/", "_")


def hexadecimal(data: bytes) -> str:
    """A JSON string of lower-case hex digits."""
    return f'"{data.hex()}"'


ENCODINGS: dict[BinaryMode, Callable[[bytes], str]] = {
    "bytes": base64,
    "base64": base64,
    "base64-url-safe": base64_url_safe,
    "hex": hexadecimal,
}
"""JSON of bytes by binary.handling.mode."""


def _data(text: str) -> bytes:
    if not text.startswith("\\x"):
        raise ValueError("a bytea is not in hex")
    return unhexlify(text[2:])


def bytea(text: str) -> str:
    """Base64 of a `bytea` in hex output (`\\x00ff`)."""
    return base64(_data(text))


def _bytea(text: str, encode: Callable[[bytes], str]) -> str:
    return encode(_data(text))


def _text(text: str, encode: Callable[[bytes], str]) -> str:
    return encode(text.encode("latin-1"))


def bytea_rendering(options: ValueOptions) -> Rendering:
    """`bytea`."""
    encode = ENCODINGS[options.binary]
    convert = bytea if encode is base64 else partial(_bytea, encode=encode)
    return Rendering(convert, '""', unavailable=_unavailable(options), printed=no_default)


def opaque_rendering(options: ValueOptions) -> Rendering:
    """A type that Debezium does not know, with include.unknown.datatypes: the bytes of its text."""
    convert = partial(_text, encode=ENCODINGS[options.binary])
    return Rendering(convert, '""', unavailable=_unavailable(options), printed=no_default)


def _unavailable(options: ValueOptions) -> str:
    # As recorded: the two base64 texts have no placeholder.
    if options.binary == "hex":
        return placeholder_json(options)
    return base64(placeholder(options)) if options.binary == "bytes" else "null"


def bits(text: str) -> str:
    """Base64 of a bit string as little-endian bytes, without the leading zero bytes of the number."""
    number = int(text or "0", 2)
    return base64(number.to_bytes((number.bit_length() + 7) // 8, "little"))


def bits_rendering(modifier: int) -> Rendering:
    """`bit(n)` and `bit varying(n)`; a single bit is a boolean."""
    if modifier == 1:
        # An empty `bit varying(1)` is recorded as null.
        return Rendering({"0": "false", "1": "true", "": "null"}.__getitem__, "false", computed="false")
    return Rendering(bits, '""', computed='""')
