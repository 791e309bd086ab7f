"""What is known about writing the values of one column type; values.py finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

Inline = Literal["raw", "quoted", "text", "memo", "call"]


class Rendering(msgspec.Struct, frozen=True):
    """How values of one column type become JSON."""

    convert: Callable[[str], str]
    """JSON of one value that is not NULL."""
    fallback: str
    """JSON for NULL where a NOT NULL column has no value (the `before` of a delete)."""
    inline: Inline = "call"
    """What generated code may write instead of calling `convert`: the text as it is, between quotes, through
    `quick_quote`, through a dict of recent results, or nothing better than the call."""
    unavailable: str = "null"
    """JSON for a TOAST value that PostgreSQL did not send; null where Debezium has no placeholder for the type."""
    computed: str | None = None
    """JSON for NULL in a column whose default is a function call; None = as if it had no default."""
    printed: Callable[[str], str] = str
    """Brings the text of a literal default into the form PostgreSQL prints values in, or raises ValueError: columns of
    this type have no default."""


def no_default(_: str) -> str:
    """`printed` of the types whose defaults Debezium does not read."""
    raise ValueError("columns of this type have no default")
