r"""Generated code for the common row: an insert, or an update without an old tuple, of one table.

For each plan a function is compiled from `_TEMPLATE`. It takes a run of messages that begin with the same tag (kind,
relation, tuple mark and column count: bytes 25 to 32) and appends a key and a value for each.

Rule 1: text values hold no zero byte, so three zero bytes stand in a tuple only at the start of a length below 256.
        Splitting there gives one piece more than there are columns exactly when every column is present and shorter
        than 256 bytes. A piece is the last length byte, the text, and the kind of the next column.
Rule 2: any other row, and a row with a character that `quick_quote` writes differently than Java, takes the ordinary
        way of the plan. Both ways give the same bytes.
Rule 3: a converter's error leaves the function as it is; whoever called it sees in `values` how far it came.

What the source of an orders table with the columns id and status looks like:

    def rows(messages, at, stop, tag, head, middle, tail, add_key, add_value):
        while at < stop:
            message = messages[at]
            if message[25:33] != tag:
                break
            at += 1
            lsn = str(int_of(message[1:9]))
            text = message[33:].decode("latin-1")
            pieces = text.split("\0\0\0")
            key = after = ""
            if len(pieces) == 3:
                _, p0, p1 = pieces
                v0 = p0[1:-1]
                after = '{"id":' f"{v0}" ',"status":' f"{q(p1[1:])}" "}"
                ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from deltaforge.envelopes.fields import read_fields
from deltaforge.envelopes.jsontext import has_four_bytes, quick_quote

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.plan import Plan, PlanColumn

MEMO_LIMIT = 8192
"""Entries a Memo keeps before it starts again."""

_TEMPLATE = r"""
def rows(messages, at, stop, tag, head, middle, tail, add_key, add_value):
    while at < stop:
        message = messages[at]
        if message[25:33] != tag:
            break
        at += 1
        lsn = str(int_of(message[1:9], "big"))
        text = message[33:].decode("latin-1")
        pieces = text.split("\0\0\0")
        if len(pieces) == {pieces}:
            {names} = pieces
{values}
            after = {after}
            key = {key}
            if {rare}:
                after, key = ordinary(message)
        else:
            after, key = ordinary(message)
        add_key({add_key})
        value = f'{start}{{after}}{{head}}{{lsn}}{{middle}}{{lsn}}{{tail}}'
        add_value(value.encode("latin-1"))
    return at
"""


class Rows(Protocol):
    """The generated function. Returns the index of the first message that it did not take."""

    def __call__(
        self,
        messages: list[bytes],
        at: int,
        stop: int,
        tag: bytes,
        head: str,
        middle: str,
        tail: str,
        add_key: Callable[[bytes | None], None],
        add_value: Callable[[bytes | None], None],
        /,
    ) -> int: ...


class Memo(dict[str, str]):
    """Recent results of a converter: dates, amounts and flags repeat. Forgets everything when full."""

    def __init__(self, convert: Callable[[str], str]) -> None:
        super().__init__()
        self._convert = convert

    def __missing__(self, text: str) -> str:
        if len(self) >= MEMO_LIMIT:
            self.clear()
        found = self[text] = self._convert(text)
        return found


def compile_rows(plan: Plan) -> Rows:
    """The generated function for `plan`."""
    names: dict[str, object] = {"int_of": int.from_bytes, "quick": quick_quote, "four": has_four_bytes}
    names["ordinary"] = _ordinary(plan)
    source = _source(plan, names)
    exec(compile(source, f"<rows of {plan.relation.schema}.{plan.relation.table}>", "exec"), names)  # noqa: S102
    return cast("Rows", names["rows"])


def _ordinary(plan: Plan) -> Callable[[bytes], tuple[str, str | None]]:
    def ordinary(message: bytes) -> tuple[str, str | None]:
        fields, _ = read_fields(message, 31, plan.count)
        key = plan.key(fields)
        return plan.row(fields), None if key is None else f"{{{key}{plan.key_end}"

    return ordinary


def _source(plan: Plan, names: dict[str, object]) -> str:
    values = []
    shown: dict[int, str] = {}
    for column in plan.columns:
        index = column.index
        slot = f"p{index}[1:]" if index == plan.count - 1 else f"p{index}[1:-1]"
        expression = _expression(column, slot, names)
        if column in plan.key_columns:
            values.append(f"            v{index} = {expression}")
            expression = f"v{index}"
        shown[index] = expression
    after = _literal([(column.label, shown[column.index]) for column in plan.columns], "}")
    key = _literal([(column.label, shown[column.index]) for column in plan.key_columns], plan.key_end)
    texts = any(column.rendering.inline == "text" for column in plan.columns)
    return _TEMPLATE.format(
        start='{{"before":null,"after":',
        pieces=plan.count + 1,
        names=", ".join(["_", *(f"p{index}" for index in range(plan.count))]) + ("," if not plan.count else ""),
        values="\n".join(values),
        after=after,
        key=key if plan.key_columns else "None",
        rare=r'"\\u00" in after or not text.isascii() and four(text)' if texts else "False",
        add_key='key.encode("latin-1")' if plan.key_columns else "None",
    )


def _expression(column: PlanColumn, slot: str, names: dict[str, object]) -> str:
    """Source text of an expression for the column's JSON. `slot` is the expression of its text."""
    rendering = column.rendering
    match rendering.inline:
        case "raw":
            return slot
        case "quoted":
            return f"'\"' + {slot} + '\"'"
        case "text":
            return f"quick({slot})"
        case "memo":
            names[f"m{column.index}"] = Memo(rendering.convert)
            return f"m{column.index}[{slot}]"
        case "call":
            names[f"f{column.index}"] = rendering.convert
            return f"f{column.index}({slot})"


def _literal(members: list[tuple[str, str]], end: str) -> str:
    """An f-string of a JSON object. Constants are string literals beside it, which the compiler merges."""
    out = []
    comma = "{"
    for label, expression in members:
        out.append(f"{comma + label!r} f'''{{{expression}}}'''")
        comma = ","
    return " ".join([*out, repr(end if members else "{" + end)])
