"""What differs from one recording of a file to the next, made equal. Pure.

A null stays a null: whether there is an LSN or a transaction is part of the format.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CLOCKS = frozenset({"ts_ms", "ts_us", "ts_ns", "lsn", "txId", "origin_lsn"})
_NUMBER = re.compile(r"\d+")
_NOW = re.compile(r"20(2[6-9]|[3-9]\d)-\d\d-\d\dT[\d:.]+Z")


# How the connector names logical messages in a transaction's END: a Java object's default text.
_IDENTITY = re.compile(r"MessageId@[0-9a-f]+")


def masked(line: Mapping[str, Any], known: str) -> dict[str, Any]:
    """A line of a recording without clocks, LSNs, transaction ids and random identifiers.

    Args:
      known: the SQL; an identifier that is not in it is a random one.
    """
    return {**line, "key": _json(line["key"], known), "value": _json(line["value"], known)}


def differences(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], known: str) -> list[str]:
    """The pairs of lines that differ when masked, for a person to read; empty when the recordings agree."""
    found = [f"{len(old)} lines, now {len(new)}"] if len(old) != len(new) else []
    for number, (before, after) in enumerate(zip(old, new, strict=False), start=1):
        one, other = (json.dumps(masked(line, known), ensure_ascii=False) for line in (before, after))
        if one != other:
            found.append(f"line {number}\n- {one}\n+ {other}")
    return found


def _json(text: str | None, known: str) -> Any:
    return None if text is None else _mask("", json.loads(text), known)


def _mask(name: str, value: Any, known: str) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("year"), int) and 2026 <= value["year"] < 2100:
            return "now"
        return {key: _mask(key, inner, known) for key, inner in value.items()}
    if isinstance(value, list):
        inside = [_mask("", inner, known) for inner in value]
        # In the order of hash codes, which are random for logical messages.
        return sorted(inside, key=str) if name == "data_collections" else inside
    if name in _CLOCKS and isinstance(value, int):
        return "*"
    if name == "sequence" and isinstance(value, str):
        return _NUMBER.sub("*", value)
    if isinstance(value, str):
        return _text(name, value, known)
    return value


def _text(name: str, value: str, known: str) -> str:
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value) and value not in known:
        return "a random identifier"
    if name == "id" and re.fullmatch(r"\d+:\d+", value):
        return "a transaction"
    return _IDENTITY.sub("MessageId", _NOW.sub("now", value))
