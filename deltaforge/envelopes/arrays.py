"""PostgreSQL's array text as a JSON array.

The text is `{1,NULL,"quo\\"ted"}`; inner braces are further dimensions and become nested JSON arrays; a leading
`[0:1]=` (bounds that do not start at 1) is dropped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)|([{},])', re.DOTALL)
_UNESCAPE = re.compile(r"\\(.)", re.DOTALL)


def array(text: str, element: Callable[[str], str]) -> str:
    """Render an array with `element` for each value that is not NULL.

    Raises ValueError for text that is no array.
    """
    if text == "{}":
        return "[]"
    if text[:1] == "[":
        text = text.partition("=")[2]
    out: list[str] = []
    at = 0
    while match := _ELEMENT.match(text, at):
        at = match.end()
        quoted, bare, mark = match.groups()
        if quoted is not None:
            out.append(element(_UNESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted))
        elif bare is not None:
            out.append("null" if bare == "NULL" else element(bare))
        else:
            out.append("[" if mark == "{" else "]" if mark == "}" else ",")
    if at != len(text) or not out or out[0] != "[":
        raise ValueError("not an array")
    return "".join(out)
