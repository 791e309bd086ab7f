"""PostgreSQL's array text as a JSON array.

The text is `{1,NULL,"quo\\"ted"}`; a leading `[0:1]=` (bounds that do not start at 1) is dropped. Some arrays are more
than Debezium's JDBC driver or schema can take and become null, as recorded.

Rule 1: Debezium's schema knows one dimension. An array within an array is null, or among strings the text PostgreSQL
        prints for it, where Debezium writes the address of a Java object.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)|([{},])', re.DOTALL)
_UNESCAPE = re.compile(r"\\(.)", re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NULL = re.compile(r"(?<=[{,])NULL(?=[,}])")
_SPECIAL = re.compile("NaN|Infinity")
_INNER = re.compile(r"(?:\[[^{]*=)?\{\{")


def no_inner(_: str) -> str:
    """What is written for an array within an array, unless it is its text (rule 1)."""
    return "null"


def array(text: str, element: Callable[[str], str], inner: Callable[[str], str] = no_inner) -> str:
    """Render an array with `element` for each value that is not NULL, `inner` for each array in it.

    Raises ValueError for text that is no array.
    """
    if text == "{}":
        return "[]"
    if text[:1] == "[":
        text = text.partition("=")[2]
    out: list[str] = []
    at = depth = opened = kept = 0
    due = True
    while match := _ELEMENT.match(text, at):
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
            if mark == "{" and depth == 1:
                opened, kept = match.start(), len(out)
            out.append("[" if mark == "{" else "]" if mark == "}" else ",")
            depth += (mark == "{") - (mark == "}")
            if mark == "}" and depth == 1:
                out[kept:] = [inner(text[opened:at])]
        due = mark == "{" or mark == ","
    if at != len(text) or depth or not out or out[0] != "[":
        raise ValueError("not an array")
    return "".join(out)


def required(text: str, element: Callable[[str], str], inner: Callable[[str], str] = no_inner) -> str:
    """As `array`, of elements that Debezium's schema requires: one that is null makes a null of the whole array."""
    if _INNER.match(text):
        return "null" if inner is no_inner else array(text, element, inner)
    return "null" if _NULL.search(_QUOTED.sub("", text)) else array(text, element)


def flat(text: str, element: Callable[[str], str]) -> str:
    """As `array`, of elements of which Debezium's driver makes no arrays within arrays: null then."""
    return "null" if _INNER.match(text) else array(text, element)


def finite(text: str, element: Callable[[str], str]) -> str:
    """As `array`, of `numeric`: the JDBC driver cannot read NaN and infinity here, so the whole array is null."""
    return "null" if _SPECIAL.search(text) else array(text, element)


def empty(text: str) -> str:
    """Arrays of geometric types: Debezium can write the empty one only, any other is null."""
    return "[]" if text == "{}" else "null"


def far(text: str, element: Callable[[str], str], ends: Mapping[str, str]) -> str:
    """An element of a type whose infinity or last moment is another one in arrays, in the driver's arithmetic."""
    return ends.get(text) or element(text)
