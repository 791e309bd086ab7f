r"""How a row's bytes are cut into column texts without looking at each byte.

The *shape* of a row has one letter per column: `s` short (below 256 bytes), `n` NULL, `l` long (below 65,536).

Rule 1: text holds no zero byte, so a `t` and three zero bytes stand in a tuple only at the start of a short column.
        Splitting there leaves one piece more than there are short columns. A piece is the last byte of the length, the
        text, and whatever comes before the next short column.
Rule 2: a shape's source text reads every piece to its end. A tuple that is not exactly of the shape is another's, also
        when its bytes are damaged.
Rule 3: a row with unchanged TOAST or a column from 65,536 bytes on has no shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.envelopes.fields import Field

SHORT, NULL, LONG = "snl"


def shape_of(fields: Sequence[Field]) -> str | None:
    """The shape of a row, None when it has none (rule 3)."""
    letters = []
    for field in fields:
        if field is None:
            letters.append(NULL)
        elif isinstance(field, str) and len(field) < 65_536:
            letters.append(SHORT if len(field) < 256 else LONG)
        else:
            return None
    return "".join(letters)


class Cut(NamedTuple):
    """Source text that cuts `pieces` into columns."""

    names: str
    """Left side of an assignment of `pieces`."""
    lines: list[str]
    """Statements that check (`return None` when the row has another shape) and cut the pieces with more in them than
    their short column."""
    exact: str
    """Expression: do the other pieces hold just what they should?"""
    slots: dict[int, str]
    """Expression of the text of each column that is not NULL."""
    pieces: int
    """How many pieces a row of this shape has."""


def cut(shape: str) -> Cut:
    """Write the source text for one shape."""
    groups: list[list[int]] = [[]]
    for index, letter in enumerate(shape):
        if letter == SHORT:
            groups.append([])
        groups[-1].append(index)
    lines: list[str] = []
    exact: list[str] = []
    slots: dict[int, str] = {}
    for number, group in enumerate(groups):
        piece = f"p{number}"
        if number and len(group) == 1:
            exact.append(f"{piece} and ord({piece}[0]) + 1 == len({piece})")
            slots[group[0]] = f"{piece}[1:]"
        elif group:
            lines += _read_piece(piece, shape, group, slots)
        else:
            exact.append(f"not {piece}")
    names = ", ".join(f"p{number}" for number in range(len(groups))) + ","
    return Cut(names, lines, " and ".join(exact) or "True", slots, len(groups))


def _read_piece(piece: str, shape: str, group: list[int], slots: dict[int, str]) -> list[str]:
    """Statements that read one piece from its front to its end; `q` is where they are."""
    lines = ["q = 0"]
    if shape[group[0]] == SHORT:
        first = group.pop(0)
        lines = [f"if not {piece}: return None", f"q = ord({piece}[0]) + 1", f"t{first} = {piece}[1:q]"]
        slots[first] = f"t{first}"
    nulls = 0
    for index in group:
        if shape[index] == NULL:
            nulls += 1
            continue
        opening = "n" * nulls + "t\0\0"
        lines += _expect(piece, opening)
        lines.append(f"if len({piece}) < q + 2: return None")
        lines.append(f"e = q + 2 + (ord({piece}[q]) << 8 | ord({piece}[q + 1]))")
        lines += [f"t{index} = {piece}[q + 2:e]", "q = e"]
        slots[index] = f"t{index}"
        nulls = 0
    return [*lines, f"if {piece}[q:] != {'n' * nulls!r} or q > len({piece}): return None"]


def _expect(piece: str, text: str) -> list[str]:
    return [f"if {piece}[q:q + {len(text)}] != {text!r}: return None", f"q += {len(text)}"]
