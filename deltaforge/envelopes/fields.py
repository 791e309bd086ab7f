"""The column values of one tuple, read from a pgoutput message in text mode.

The general reader: any length, NULL, unchanged TOAST. The generated row code (rowcode.py) has a quicker way for rows
whose columns are all present and short.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

from deltaforge.errors import ProtocolViolation


class Unsent(Enum):
    """A TOAST value that did not change and is not in the message."""

    UNSENT = "unsent"


UNSENT = Unsent.UNSENT
Field: TypeAlias = str | Unsent | None
"""Wire text, NULL, or unchanged TOAST."""

_TEXT, _NULL, _UNCHANGED = b"tnu"


def read_fields(message: bytes, at: int, count: int) -> tuple[list[Field], int]:
    """Read the tuple whose column count stands at `at`; return its fields and where it ends.

    Raises ProtocolViolation when the tuple does not have `count` columns or the message ends within it.
    """
    from_bytes = int.from_bytes
    if from_bytes(message[at : at + 2], "big") != count:
        raise ProtocolViolation(f"a tuple has another number of columns than its relation ({count})")
    at += 2
    fields: list[Field] = []
    add = fields.append
    size = len(message)
    for _ in range(count):
        kind = message[at] if at < size else None
        if kind == _TEXT:
            start = at + 5
            at = start + from_bytes(message[at + 1 : start], "big")
            add(message[start:at].decode("latin-1"))
        elif kind == _NULL:
            add(None)
            at += 1
        elif kind == _UNCHANGED:
            add(UNSENT)
            at += 1
        else:
            raise ProtocolViolation("a tuple ends early or holds a value that is not text")
    if at > size:
        raise ProtocolViolation("a tuple is longer than its message")
    return fields, at
