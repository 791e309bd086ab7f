"""`hstore`: a JSON object of texts, or a JSON string that holds such an object (hstore.handling.mode).

The pairs stand in the order of the Java map that Debezium keeps them in (javahash.py).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deltaforge.envelopes.binary import placeholder_json
from deltaforge.envelopes.javahash import hash_map_order
from deltaforge.envelopes.jsontext import plain_quote, quote
from deltaforge.envelopes.renderings import Rendering, no_default

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.options import ValueOptions

_STRING = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
_PAIR = re.compile(rf'{_STRING}=>(?:NULL|{_STRING})(?:, (?=")|\Z)', re.DOTALL)
_UNESCAPE = re.compile(r"\\(.)", re.DOTALL)


def pairs(text: str) -> dict[str, str | None]:
    """Keys and values of `"a"=>"1", "b"=>NULL`. Raises ValueError for text that is no hstore."""
    found: dict[str, str | None] = {}
    at = 0
    while at < len(text):
        if not (match := _PAIR.match(text, at)):
            raise ValueError("not an hstore")
        key, value = match.groups()
        found[_UNESCAPE.sub(r"\1", key)] = None if value is None else _UNESCAPE.sub(r"\1", value)
        at = match.end()
    return found


def _object(text: str, write: Callable[[str], str]) -> str:
    found = pairs(text)
    members = []
    # The order goes by characters; bytes that are none keep their place and their value.
    for key in hash_map_order(key.encode("latin-1").decode(errors="surrogateescape") for key in found):
        name = key.encode(errors="surrogateescape").decode("latin-1")
        value = found[name]
        members.append(f"{write(name)}:{'null' if value is None else write(value)}")
    return f"{{{','.join(members)}}}"


def as_map(text: str) -> str:
    """A JSON object. Raises ValueError for text that is no hstore."""
    return _object(text, quote)


def as_json(text: str) -> str:
    """A JSON string that holds a JSON object. Raises ValueError for text that is no hstore."""
    return quote(_object(text, plain_quote))


def hstore_rendering(options: ValueOptions) -> Rendering:
    """`hstore`."""
    name = placeholder_json(options)
    unsent = f"{{{name}:{name}}}"
    if options.hstore == "map":
        return Rendering(as_map, "{}", unavailable=unsent, printed=no_default)
    return Rendering(as_json, '"{}"', unavailable=quote(unsent), printed=no_default)
