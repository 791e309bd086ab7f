"""`${...}` in strings: capitals are environment variables, lower case is a template of `topic`.

`split` is the one scanner for both. One pass: what a variable or a table name contributes is never looked at again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["text", "env", "template", "malformed"]

_ENV = re.compile(r"([A-Z_][A-Z0-9_]*)(?::-([^}]*))?\Z")
_TEMPLATE = re.compile(r"[a-z][A-Za-z0-9_.]*\Z")
_ILLEGAL_IN_TOPIC = re.compile(r"[^A-Za-z0-9._\-]")

TOPIC_FIELDS = ("source.schema", "source.table", "source.db", "tenant_id")
LATER_FIELDS = ("op", "after.", "before.")
TOPIC_LENGTH = 249
"""Kafka's limit on a topic name."""


class Piece(NamedTuple):
    """Part of a string: plain text, or the inside of a `${...}`."""

    kind: Kind
    text: str
    default: str | None = None


class TemplateError(ValueError):
    """A `topic` that cannot work. The text may be shown: it quotes nothing but known field names."""


def split(raw: str) -> list[Piece]:
    """Cut a string at its `${...}`. Never fails: what has no valid form comes back as `malformed`."""
    pieces: list[Piece] = []
    at = 0
    while (start := raw.find("${", at)) >= 0:
        if start > at:
            pieces.append(Piece("text", raw[at:start]))
        end = raw.find("}", start)
        if end < 0:
            return [*pieces, Piece("malformed", raw[start:])]
        pieces.append(_piece(raw[start + 2 : end]))
        at = end + 1
    if at < len(raw) or not pieces:
        pieces.append(Piece("text", raw[at:]))
    return pieces


def _piece(inside: str) -> Piece:
    if match := _ENV.match(inside):
        return Piece("env", match[1], match[2])
    return Piece("template" if _TEMPLATE.match(inside) else "malformed", inside)


class TopicTemplate:
    """The topic of a record: constant, or made of schema, table, database and tenant."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """Raises TemplateError for fields that do not exist or are not available yet, and for an illegal topic name."""
        self.pieces = tuple(piece for piece in pieces if piece.text)
        for piece in self.pieces:
            if piece.kind == "template":
                _check_field(piece.text)
            elif _ILLEGAL_IN_TOPIC.search(piece.text):
                raise TemplateError("a topic name has letters, digits, '.', '_' and '-' only")
        literal = "".join(piece.text for piece in self.pieces if piece.kind == "text")
        if not self.pieces or (self.constant and literal in (".", "..")):
            raise TemplateError("the topic is empty" if not self.pieces else "'.' and '..' are not topic names")
        if len(literal) > TOPIC_LENGTH:
            raise TemplateError(f"a topic name has at most {TOPIC_LENGTH} characters")
        if literal.startswith("_deltaforge."):
            raise TemplateError("topics that start with '_deltaforge.' hold deltaforge's own checkpoints")

    @classmethod
    def parse(cls, raw: str) -> TopicTemplate:
        """Read a template without environment variables, as tests and code do."""
        return cls(split(raw))

    @property
    def fields(self) -> frozenset[str]:
        """The template fields it uses."""
        return frozenset(piece.text for piece in self.pieces if piece.kind == "template")

    @property
    def constant(self) -> bool:
        """True when every record goes to the same topic, whatever its table."""
        return not self.fields - {"tenant_id"}

    @property
    def one_table_each(self) -> bool:
        """True when no two tables can share a topic: both schema and table are in the name."""
        return {"source.schema", "source.table"} <= self.fields

    def __str__(self) -> str:
        return "".join(f"${{{piece.text}}}" if piece.kind == "template" else piece.text for piece in self.pieces)

    def __repr__(self) -> str:
        return f"TopicTemplate({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TopicTemplate) and self.pieces == other.pieces

    def __hash__(self) -> int:
        return hash(self.pieces)


def _check_field(name: str) -> None:
    if name in TOPIC_FIELDS:
        return
    if name == "op" or name.startswith(LATER_FIELDS[1:]):
        raise TemplateError("templates on the operation or on row values are not available yet; use source.* fields")
    raise TemplateError(f"unknown template field; known: {', '.join(TOPIC_FIELDS)}")
