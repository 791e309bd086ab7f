"""What stands for NULL in a column.

Kafka Connect's JSON converter writes a field's schema default instead of null (`replace.null.with.default`, on by
default). A NOT NULL column without a value has its default or else the zero of its type from Debezium itself,
whatever the converter does.

Rule 1: a default that is one literal is written as that value, of the types whose defaults Debezium reads (see
        `Rendering.printed`). A list or struct cannot be a schema default.
Rule 2: a default that is a function call is written as the zero Debezium keeps for the type.
Rule 3: any other expression counts as no default.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deltaforge.envelopes.jsontext import wire

if TYPE_CHECKING:
    from deltaforge.envelopes.options import ValueOptions
    from deltaforge.envelopes.renderings import Rendering
    from deltaforge.model import Column

_QUOTED = re.compile(r"'((?:[^']|'')*)'(?:::[\w\s\".,()\[\]]+)?\Z")
_ESCAPED = re.compile(r"E'((?:[^'\\]|''|\\.)*)'(?:::[\w\s\".,()\[\]]+)?\Z", re.DOTALL)
_BITS = re.compile(r"B'([01]*)'(?:::[\w\s\"().,]+)?\Z")
_BARE = re.compile(r"\(?(-?\d+(?:\.\d+)?)\)?(?:::[\w\s().,]+)?\Z")
_CALL = re.compile(r"\(*[\w.\"]+\(.*\)|CURRENT_\w+|LOCALTIME\w*", re.DOTALL)


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
    if expression is None:
        return None
    text = literal(expression)
    if text is None:
        return rendering.computed if _CALL.match(expression) else None
    try:
        value = rendering.convert(wire(rendering.printed(text)))
    except (ValueError, ArithmeticError, KeyError, IndexError):
        return None
    return None if value.startswith(("{", "[")) else value


def literal(expression: str) -> str | None:
    """The text of a default (as pg_get_expr prints it) that is a single constant, else None."""
    if expression in ("true", "false"):
        return expression[0]
    if match := _BARE.match(expression) or _BITS.match(expression):
        return match[1]
    if match := _QUOTED.match(expression):
        return match[1].replace("''", "'")
    if match := _ESCAPED.match(expression):
        return re.sub(r"\\(.)", r"\1", match[1].replace("''", "'"), flags=re.DOTALL)
    return None
