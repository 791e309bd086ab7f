r"""JSON strings, written the way Debezium's converter writes them.

Rule 1: everything the encoder reads and writes is *wire text*: a `str` whose code points are the bytes of UTF-8 text
        (bytes decoded as Latin-1). Decoding and encoding it is a plain copy, non-ASCII text passes through untouched,
        and the interpreter's fastest string operations can be used. Names enter it through `wire`.
Rule 2: non-ASCII characters stay raw, except those outside the basic plane: an escaped surrogate pair (`\uD83D\uDE00`).
Rule 3: control characters have upper-case hex digits (`\u001F`); `/` and 0x7F are not escaped.
"""

from __future__ import annotations

import re
from functools import lru_cache
from json.encoder import encode_basestring

quick_quote = encode_basestring
"""Right unless `RARE_ESCAPE` is in the result or a four-byte character is in the text; then `quote` is needed."""

RARE_ESCAPE = "\\u00"

_ESCAPE = re.compile(r"\\\\|\\u00[0-9a-f]{2}")
# Only what UTF-8 allows: bytes of a database in SQL_ASCII may look like more.
_FOUR_BYTES = re.compile("\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}")


def wire(text: str) -> str:
    """Unicode text as wire text."""
    return text.encode().decode("latin-1")


@lru_cache(1024)
def quoted_name(name: str) -> str:
    """A JSON string of a name in Unicode: there are few, and every transaction writes some of them."""
    return quote(wire(name))


def quote(text: str) -> str:
    """A JSON string, quotes included, of any wire text."""
    quoted = encode_basestring(text)
    if RARE_ESCAPE in quoted:
        quoted = _ESCAPE.sub(_upper, quoted)
    if has_four_bytes(text):
        quoted = _FOUR_BYTES.sub(_surrogates, quoted)
    return quoted


def plain_quote(text: str) -> str:
    """As `quote`, with characters outside the basic plane as they are: for JSON that will stand in a JSON string."""
    quoted = encode_basestring(text)
    return _ESCAPE.sub(_upper, quoted) if RARE_ESCAPE in quoted else quoted


def has_four_bytes(text: str) -> bool:
    """May `text` hold a character outside the basic plane? Five quick scans are faster than a regular expression."""
    return not text.isascii() and (
        "\xf0" in text or "\xf1" in text or "\xf2" in text or "\xf3" in text or "\xf4" in text
    )


def _upper(match: re.Match[str]) -> str:
    found = match[0]
    return found if len(found) == 2 else "\\u" + found[2:].upper()


def _surrogates(match: re.Match[str]) -> str:
    code = ord(match[0].encode("latin-1").decode()) - 0x10000
    return f"\\u{0xD800 + (code >> 10):04X}\\u{0xDC00 + (code & 0x3FF):04X}"
