"""`${...}` in strings: capitals are environment variables, lower case is a template of `topic` or `key`.

`split` is the one scanner for both. One pass: what a variable or a table name contributes is never looked at again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["text", "env", "template", "malformed"]

_ENV = re.compile(r"([A-Z_][A-Z0-9_]*)(?::-([^}]*))?\Z")
_TEMPLATE = re.compile(r"[a-z][A-Za-z0-9_.]*\Z")
_ILLEGAL_IN_TOPIC = re.compile(r"[^A-Za-z0-9._\-]")

SOURCE_FIELDS = ("source.schema", "source.table", "source.db", "tenant_id")
"""The same for every change of a table."""
ROW_FIELDS = ("op", "after.COLUMN", "before.COLUMN")
"""Another for every change."""
TOPIC_LENGTH = 249
"""Kafka's limit on a topic name."""


class Piece(NamedTuple):
    """Part of a string: plain text, or the inside of a `${...}`."""

    kind: Kind
    text: str
    default: str | None = None


class TemplateError(ValueError):
    """A template that cannot work. The text may be shown: it quotes nothing but known field names."""


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


class Template:
    """Text with fields of the change in it."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """Raises TemplateError for fields that do not exist."""
        self.pieces = tuple(piece for piece in pieces if piece.text)
        for name in self.fields:
            _check_field(name)

    @classmethod
    def parse(cls, raw: str) -> Self:
        """Read a template without environment variables, as tests and code do."""
        return cls(split(raw))

    @property
    def fields(self) -> frozenset[str]:
        """The template fields it uses."""
        return frozenset(piece.text for piece in self.pieces if piece.kind == "template")

    def __str__(self) -> str:
        return "".join(f"${{{piece.text}}}" if piece.kind == "template" else piece.text for piece in self.pieces)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.pieces == other.pieces

    def __hash__(self) -> int:
        return hash(self.pieces)


class TopicTemplate(Template):
    """The topic of a record: constant, or made of what the change is and has."""

    __slots__ = ()

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """Raises TemplateError for fields that do not exist, and for an illegal topic name."""
        super().__init__(pieces)
        literal = "".join(piece.text for piece in self.pieces if piece.kind == "text")
        if _ILLEGAL_IN_TOPIC.search(literal):
            raise TemplateError("a topic name has letters, digits, '.', '_' and '-' only")
        if not self.pieces or (self.constant and literal in (".", "..")):
            raise TemplateError("the topic is empty" if not self.pieces else "'.' and '..' are not topic names")
        if len(literal) > TOPIC_LENGTH:
            raise TemplateError(f"a topic name has at most {TOPIC_LENGTH} characters")
        if literal.startswith("_deltaforge."):
            raise TemplateError("topics that start with '_deltaforge.' hold deltaforge's own checkpoints")

    @property
    def constant(self) -> bool:
        """True when every record goes to the same topic, whatever its table."""
        return not self.fields - {"tenant_id"}

    @property
    def one_table_each(self) -> bool:
        """True when no two tables can share a topic: both schema and table are in the name."""
        return {"source.schema", "source.table"} <= self.fields


class KeyTemplate(Template):
    """The key of a record, as text."""

    __slots__ = ()

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """Raises TemplateError for fields that do not exist, and for a key without any."""
        super().__init__(pieces)
        if not self.fields - {"tenant_id"}:
            raise TemplateError("every record would have the same key; name a column, as in ${after.id}")
        if any("${" in piece.text for piece in self.pieces):
            raise TemplateError("a '${' without a valid name and '}'")


def _check_field(name: str) -> None:
    head, dot, column = name.partition(".")
    if name not in SOURCE_FIELDS and name != "op" and not (head in ("after", "before") and dot and column):
        raise TemplateError(f"unknown template field; known: {', '.join(SOURCE_FIELDS + ROW_FIELDS)}")
