"""What stands for NULL in a column.

Kafka Connect's JSON converter writes a field's schema default instead of null (`replace.null.with.default`, on by
default). A NOT NULL column without a value has its default or else the zero of its type from Debezium itself,
whatever the converter does.

Rule 1: a default that begins with a function call is written as the zero Debezium keeps for the type.
Rule 2: of any other the first quoted literal counts, or a bare number, of the types whose defaults Debezium reads (see
        `Rendering.printed`). A list or struct cannot be a schema default.
Rule 3: any other expression is, to a string, its own text, and to other types no default.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deltaforge.envelopes import times
from deltaforge.envelopes.binary import bits
from deltaforge.envelopes.jsontext import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.options import ValueOptions
    from deltaforge.envelopes.renderings import Rendering
    from deltaforge.model import Column

_QUOTED = re.compile(r"(E?)'((?:[^']|'')*)'")
_BARE = re.compile(r"\(?(-?\d+(?:\.\d+)?)\)?\Z")
_CALL = re.compile(r"\(?[\w.]+\(.*\)", re.DOTALL)
_CLOCK = re.compile(r"CURRENT_\w+|LOCALTIME\w*")
_NULL = re.compile(r"NULL(?:::|\Z)")

_LAST_DAY, _FIRST_DAY = "+999999999-12-31", "-999999999-01-01"
_ENDS: dict[Callable[[str], str], dict[str, str | None]] = {
    times.date: {"infinity": "169560311", "-infinity": "-170999002"},
    times.iso_date: {"infinity": f'"{_LAST_DAY}Z"', "-infinity": f'"{_FIRST_DAY}Z"'},
    times.timestamp_us: {"infinity": "-9223372036853775810"},
    times.timestamp_ms: {"infinity": None, "-infinity": None},
    times.timestamp_ns: {"infinity": None, "-infinity": None},
    times.iso_timestamp: {
        "infinity": f'"{_LAST_DAY}T23:59:59.999999999Z"', "-infinity": f'"{_FIRST_DAY}T00:00:00Z"',
    },
    times.time_us: {"24:00:00": "86399999999"},
    times.time_ms: {"24:00:00": "86399999"},
    times.time_ns: {"24:00:00": "86399999999999"},
    times.iso_time: {"24:00:00": '"23:59:59.999999999Z"'},
}  # fmt: skip
"""Defaults that are written otherwise than a value of the column: the ends of what Java's dates and times hold."""


def null_json(column: Column, rendering: Rendering, options: ValueOptions) -> str:
    """JSON text for NULL in `column`."""
    if not column.not_null and not options.null_defaults:
        return "null"
    default = default_json(column.default, rendering)
    if default is not None:
        return default
    return rendering.fallback if column.not_null else "null"


def default_json(expression: str | None, rendering: Rendering) -> str | None:
    """JSON text of a column's default, as its schema has it; None when it counts as none."""
    if expression is None or _NULL.match(expression):
        return None
    if _CALL.match(expression):
        return rendering.computed
    text = literal(expression)
    if rendering.inline == "text" and rendering.computed is None:
        # An enum, which has to be one of its labels, and whose doubled quotes stay two.
        if text is None or not expression.startswith(("'", "E'")):
            return None
        text = text.replace("'", "''")
    if text is None and rendering.inline == "text":
        text = expression
    if text is None:
        if _CLOCK.match(expression):
            return rendering.computed
        # To Java whatever is not `true` is false, and no bit is set in text without a 1.
        return rendering.computed if rendering.computed == "false" or rendering.convert is bits else None
    ends = _ENDS.get(rendering.convert, {})
    if text in ends:
        return ends[text]
    try:
        value = rendering.convert(wire(rendering.printed(text)))
    except (ValueError, ArithmeticError, KeyError, IndexError):
        return None
    return None if value == "null" or value.startswith(("{", "[")) else value


def literal(expression: str) -> str | None:
    """The text of a default (as pg_get_expr prints it) that is a constant, or of the first one in it, else None."""
    if expression in ("true", "false"):
        return expression[0]
    if bare := _BARE.match(expression):
        return bare[1]
    if not (match := _QUOTED.search(expression)):
        return None
    text = match[2].replace("''", "'")
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) if match[1] else text
