"""pgvector's types: `vector` as doubles, `halfvec` as floats, `sparsevec` as the pairs of a Java map."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from deltaforge.envelopes.numbers import double, real
from deltaforge.envelopes.renderings import Rendering, no_default

if TYPE_CHECKING:
    from collections.abc import Callable

_SPARSE = re.compile(r"\{((?:\d+:[^,:{}]+(?:,(?=\d)|(?=\})))*)\}/(\d+)\Z")
_INT16 = 1 << 15


def _vector(text: str, element: Callable[[str], str]) -> str:
    if text[:1] + text[-1:] != "[]":
        raise ValueError("not a vector")
    return f"[{','.join(map(element, text[1:-1].split(',')))}]"


vector = partial(_vector, element=double)
"""`[1,2.5]`. Raises ValueError or ArithmeticError for other text."""
halfvec = partial(_vector, element=real)
"""`[1,2.5]`. Raises ValueError or ArithmeticError for other text."""


def sparsevec(text: str) -> str:
    """`{1:1.5,3:2}/5`, its pairs in the order of Java's HashMap with keys of type short.

    Raises ValueError for other text, and for indexes and dimensions that need more than 16 bits.
    """
    if not (match := _SPARSE.match(text)):
        raise ValueError("not a sparse vector")
    found = [(int(index), value) for index, _, value in (pair.partition(":") for pair in match[1].split(",") if pair)]
    dimensions = int(match[2])
    if max([dimensions, *(index for index, _ in found)]) >= _INT16:
        raise ValueError("a sparse vector has more dimensions than a short can count")
    size = 1
    while size < len(found) or len(found) * 4 > size * 3:
        size *= 2
    found.sort(key=lambda pair: pair[0] & (size - 1))
    pairs = ",".join(f"[{index},{double(value)}]" for index, value in found)
    return f'{{"dimensions":{dimensions},"vector":[{pairs}]}}'


BY_NAME = {
    "vector": Rendering(vector, "[]", printed=no_default),
    "halfvec": Rendering(halfvec, "[]", printed=no_default),
    "sparsevec": Rendering(sparsevec, '{"dimensions":0,"vector":[]}', printed=no_default),
}
"""The extension's types have an oid of their own in every database."""
