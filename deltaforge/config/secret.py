"""A value that does not print, and the register that lets the log filter cover up what slipped out.

Rule 1: a secret leaves its holder through `reveal` only; repr, str, format, pickle and JSON do not show it.
Rule 2: making a Secret registers its value for the life of the process: a log line may come long after the holder died.
Rule 3: `redact` covers the value as written, percent-encoded, and as Python or JSON would quote it.
"""

from __future__ import annotations

import hmac
import json
from typing import NoReturn
from urllib.parse import quote, quote_plus

MASK = "***"
_SHORTEST = 3
"""Shorter values are not searched for: covering every `a` of a log would hide the log, not the password."""

_in_use: set[str] = set()
_forms: list[str] = []


class Secret:
    """Holds one secret string. Two secrets compare equal in constant time; a Secret never equals a plain string."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        register(value)

    def reveal(self) -> str:
        """The secret itself, for the library call that needs it. Do not keep, log or format it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not written anywhere")


def register(value: str) -> None:
    """Have `redact` cover `value` from now on. Values under three characters are not covered."""
    if len(value) < _SHORTEST or value in _in_use:
        return
    _in_use.add(value)
    # Longest first: a secret may contain another one.
    _forms[:] = sorted({*_forms, *_spellings(value)}, key=len, reverse=True)


def secrets_in_use() -> frozenset[str]:
    """Every secret value known to this process, for the log filter and for the search of a leak test."""
    return frozenset(_in_use)


def redact(text: str) -> str:
    """Return `text` with every known secret replaced by `***`."""
    for form in _forms:
        if form in text:
            text = text.replace(form, MASK)
    return text


def _spellings(value: str) -> set[str]:
    spellings = {value, repr(value)[1:-1], json.dumps(value)[1:-1]}
    encoded = _bytes(value)
    spellings |= {quote(encoded, safe=""), quote(encoded), quote_plus(encoded)}
    # A private key shows up in messages line by line.
    spellings |= {line for line in value.splitlines() if len(line) >= 16 and not line.startswith("-----")}
    return spellings


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")
