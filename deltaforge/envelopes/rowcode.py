r"""Generated code for the common row: an insert, or an update without an old tuple, of one table.

For each plan a function is compiled from `_ROWS`. It takes a run of messages that begin with the same tag (kind,
relation, tuple mark and column count: bytes 25 to 32) and appends a key and a value for each.

Rule 1: rows whose columns are all short are written there. Other shapes (shapes.py) get a function of their own, from
        `_SHAPED`, when they are first seen.
Rule 2: a row without a shape, and a row with a character that `quick_quote` writes differently than Java, takes the
        ordinary way of the plan. All ways give the same bytes.
Rule 3: a converter's error leaves the function as it is; whoever called it sees in `values` how far it came.

What stands in the function for an orders table with the columns id and status:

    p0, p1, p2, = pieces
    v0 = p1[1:]
    after = '{"id":' f'''{v0}''' ',"status":' f'''{quick(p2[1:])}''' '}'
    key = '{"id":' f'''{v0}''' '}'
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from deltaforge.envelopes.fields import read_fields
from deltaforge.envelopes.jsontext import has_four_bytes, quick_quote
from deltaforge.envelopes.shapes import NULL, SHORT, cut, shape_of
from deltaforge.errors import ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltaforge.envelopes.plan import Plan, PlanColumn

    Written = tuple[str, str | None]
    """The row's JSON object and its key's."""
    Shaped = Callable[[str, list[str]], Written | None]

MEMO_LIMIT = 8192
"""Entries a Memo keeps before it starts again."""
SHAPES_LIMIT = 32
"""Shapes of one table that get code of their own."""

_ROWS = r"""
def rows(messages, at, stop, tag, head, middle, tail, add_key, add_value):
    while at < stop:
        message = messages[at]
        if message[25:33] != tag:
            break
        at += 1
        lsn = str(int_of(message[1:9], "big"))
        text = message[33:].decode("latin-1")
        pieces = text.split("t\0\0\0")
        exact = False
        if len(pieces) == {count}:
            {names} = pieces
            exact = {exact}
        if exact:
            {lines}
            after = {after}
            key = {key}
            if {rare}:
                after, key = ordinary(message)
        else:
            after, key = other(message, text, pieces)
        add_key({add_key})
        value = f'{start}{{after}}{{head}}{{lsn}}{{middle}}{{lsn}}{{tail}}'
        add_value(value.encode("latin-1"))
    return at
"""

_SHAPED = r"""
def shaped(text, pieces):
    {names} = pieces
    if not ({exact}): return None
    {lines}
    after = {after}
    key = {key}
    return None if {rare} else (after, key)
"""


_RARE = r'"\\u00" in {written} or not text.isascii() and four(text)'


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


@cache
def memo_of(convert: Callable[[str], str]) -> Memo:
    """One Memo for each converter, whatever the number of tables and columns: memory stays bounded."""
    return Memo(convert)


class RowWriter:
    """The code of one plan: the function for all-short rows, and the functions of other shapes as they come up."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._seen: set[str] = set()
        self._by_count: dict[int, list[Shaped]] = {}
        self._names: dict[str, object] = {
            "int_of": int.from_bytes,
            "quick": quick_quote,
            "four": has_four_bytes,
            "ordinary": self._ordinary,
            "other": self._other,
            "start": f'{plan.value_start}null,"after":',
        }
        # A column that is left out of the rows may still be in the key.
        hidden = [column for column in plan.key_columns if column not in plan.columns]
        self._columns = (*plan.columns, *hidden)
        self._rare = _RARE.format(written="after + key" if hidden else "after")
        self._expressions = {column.index: _expression(column, self._names) for column in self._columns}
        self.rows = cast("Rows", self._compile(_ROWS, SHORT * plan.count, "rows"))

    def _ordinary(self, message: bytes) -> Written:
        plan = self._plan
        fields, end = read_fields(message, 31, plan.count)
        if end != len(message):
            raise ProtocolViolation("a change is longer than its tuple")
        key = plan.key(fields)
        return plan.row(fields), None if key is None else f"{plan.key_start}{key}{plan.key_end}"

    def _other(self, message: bytes, text: str, pieces: list[str]) -> Written:
        """A row that is not all short: by the code of its shape, else the ordinary way."""
        for shaped in self._by_count.get(len(pieces), ()):
            found = shaped(text, pieces)
            if found is not None:
                return found
        if len(self._seen) < SHAPES_LIMIT:
            shape = shape_of(read_fields(message, 31, self._plan.count)[0])
            # The counts differ where a text holds zero bytes, which PostgreSQL never sends.
            if shape is not None and shape not in self._seen and shape.count(SHORT) + 1 == len(pieces):
                self._seen.add(shape)
                code = self._compile(_SHAPED, shape, "shaped")
                self._by_count.setdefault(len(pieces), []).append(cast("Shaped", code))
        return self._ordinary(message)

    def _compile(self, template: str, shape: str, name: str) -> object:
        relation = self._plan.relation
        source = self._source(template, shape)
        scope = dict(self._names)
        exec(compile(source, f"<{name} of {relation.schema}.{relation.table}>", "exec"), scope)  # noqa: S102
        return scope[name]

    def _source(self, template: str, shape: str) -> str:
        plan = self._plan
        how = cut(shape)
        lines = list(how.lines)
        shown: dict[int, str] = {}
        for column in self._columns:
            if shape[column.index] == NULL:
                continue
            expression = self._expressions[column.index].replace("SLOT", how.slots[column.index])
            if column in plan.key_columns:
                lines.append(f"v{column.index} = {expression}")
                expression = f"v{column.index}"
            shown[column.index] = expression
        texts = any(column.rendering.inline == "text" for column in self._columns)
        indent = "\n            " if template is _ROWS else "\n    "
        return template.format(
            count=how.pieces,
            names=how.names,
            exact=how.exact,
            lines=indent.join(lines) or "pass",
            after=_object(plan.columns, shown, "{", "}"),
            key=_object(plan.key_columns, shown, plan.key_start, plan.key_end) if plan.keyed else "None",
            rare=self._rare if texts else "False",
            add_key='key.encode("latin-1")' if plan.keyed else "None",
            start="{start}" if plan.value_schema else '{{"before":null,"after":',
        )


def _expression(column: PlanColumn, names: dict[str, object]) -> str:
    """Source text of an expression for the column's JSON; SLOT stands for the expression of its text."""
    rendering = column.rendering
    match rendering.inline:
        case "raw":
            return "SLOT"
        case "quoted":
            return "'\"' + SLOT + '\"'"
        case "text":
            return "quick(SLOT)"
        case "memo":
            names[f"m{column.index}"] = memo_of(rendering.convert)
            return f"m{column.index}[SLOT]"
        case "call":
            names[f"f{column.index}"] = rendering.convert
            return f"f{column.index}(SLOT)"


def _object(columns: tuple[PlanColumn, ...], shown: dict[int, str], start: str, end: str) -> str:
    """An f-string of a JSON object. Constants are string literals beside it, which the compiler merges."""
    out = []
    comma = start
    for column in columns:
        expression = shown.get(column.index)
        constant = comma + column.label
        out.append(repr(constant + column.null) if expression is None else f"{constant!r} f'''{{{expression}}}'''")
        comma = ","
    return " ".join([*out, repr(end if columns else start + end)])
