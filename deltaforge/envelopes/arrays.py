"""PostgreSQL's array text as a JSON array.

The text is `{1,NULL,"quo\\"ted"}`; inner braces are further dimensions and become nested JSON arrays; a leading
`[0:1]=` (bounds that do not start at 1) is dropped. Elements are separated by commas, those of `box[]` by semicolons.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ELEMENT = {
    delimiter: re.compile(rf'"((?:[^"\\]|\\.)*)"|([^{delimiter}{{}}"]+)|([{{}}{delimiter}])', re.DOTALL)
    for delimiter in ",;"
}
_UNESCAPE = re.compile(r"\\(.)", re.DOTALL)


def array(text: str, element: Callable[[str], str], delimiter: str = ",") -> str:
    """Render an array with `element` for each value that is not NULL.

    Raises ValueError for text that is no array.
    """
    if text == "{}":
        return "[]"
    if text[:1] == "[":
        text = text.partition("=")[2]
    out: list[str] = []
    at = depth = 0
    due = True
    pattern = _ELEMENT[delimiter]
    while match := pattern.match(text, at):
        quoted, bare, mark = match.groups()
        # `due`: a value or an inner array has to come next. Whatever follows the last brace is wrong.
        if due != (mark is None or mark == "{") or (at and not depth):
            break
        at = match.end()
        if quoted is not None:
            out.append(element(_UNESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted))
        elif bare is not None:
            out.append("null" if bare == "NULL" else element(bare))
        else:
            out.append("[" if mark == "{" else "]" if mark == "}" else ",")
            depth += (mark == "{") - (mark == "}")
        due = mark == "{" or mark == delimiter
    if at != len(text) or depth or not out or out[0] != "[":
        raise ValueError("not an array")
    return "".join(out)
