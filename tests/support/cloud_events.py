"""Judge a value by the rules of CloudEvents 1.0 and of its JSON format, as their texts state them."""

from __future__ import annotations

import json
import re
from typing import Any

REQUIRED = {"id", "source", "specversion", "type"}
OPTIONAL = {"datacontenttype", "dataschema", "subject", "time"}
_NAME = re.compile(r"[a-z0-9]+")
_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-F]{2})"
_REFERENCE = re.compile(rf"(?![^/?]*:){_CHARACTER}+")
"""A relative reference without an authority and without a fragment (RFC 3986, 4.2), which is what we write."""
_TIMESTAMP = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?Z")


def event_of(value: bytes | None) -> dict[str, Any]:
    """The event in a record's value. Raises AssertionError when a rule is broken."""
    assert value is not None
    event = json.loads(value.decode(), object_pairs_hook=_once)
    assert isinstance(event, dict)
    assert set(event) >= REQUIRED
    assert "data_base64" not in event
    for name, attribute in event.items():
        if name == "data":
            continue
        assert _NAME.fullmatch(name), name
        # We write no other type.
        assert isinstance(attribute, str), name
        assert attribute, name
        assert not any(map(_disallowed, attribute)), (name, attribute)
    assert set(event) <= REQUIRED | OPTIONAL | {"data"}
    assert event["specversion"] == "1.0"
    assert _REFERENCE.fullmatch(event["source"]), event["source"]
    assert _TIMESTAMP.fullmatch(event.get("time", "2000-01-01T00:00:00Z")), event["time"]
    assert event["datacontenttype"] == "application/json"
    return event


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), "a member comes twice"
    return dict(pairs)


def _disallowed(character: str) -> bool:
    code = ord(character)
    control = code < 0x20 or 0x7F <= code <= 0x9F
    return control or 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
