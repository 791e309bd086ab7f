"""Topics and keys that depend on the row: templates with `${op}`, `${after.COLUMN}`, `${before.COLUMN}`; key templates.

Rule 1: a field stands for the value as the record has it: a text without its quotes, anything else as JSON writes it.
Rule 2: `after` of a delete is the row that was, `before` of an insert the row that is: a record has a topic and a key
        even where it has but one row. A truncate has none; there a column stands for `null`, and the record has no key.
Rule 3: a topic is made legal as a whole, like any other; a key is plain text as it comes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from deltaforge.envelopes.topics import FIELD, constant_fields, sanitized, varies_by_row
from deltaforge.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.envelopes.fields import Field
    from deltaforge.envelopes.plan import Plan, PlanColumn

_NULL = "null"


class _Varying(NamedTuple):
    """A column of one of the two rows, or the operation."""

    row: str
    """`after`, `before`, or `op`, which has no column."""
    column: PlanColumn | None = None


class RowNames:
    """Writes the topic and the key of one table's records."""

    def __init__(self, plan: Plan, spec: EncoderSpec) -> None:
        """Raises OperatorError when a template names a column that the records of this table do not have."""
        self._plan = plan
        self._topic = self._pieces("topic", spec.topic, spec) if varies_by_row(spec.topic) else None
        self._key = self._pieces("key", spec.key, spec) if spec.key else None

    def topic(self, op: str, before: Sequence[Field] | None, after: Sequence[Field] | None) -> str:
        """The topic. Raises OperatorError for a name that no record may go to, and one of CONVERSION_ERRORS."""
        if self._topic is None:
            return self._plan.topic
        name = sanitized(self._fill(self._topic, op, before, after))
        if not name or name.startswith("_deltaforge."):
            relation = self._plan.relation
            what = "empty" if not name else "one of deltaforge's own"
            raise OperatorError(
                f"a row of {relation.schema}.{relation.table} leads to a topic whose name is {what}",
                hint="begin the sink's topic template with text, as in orders.${after.region}",
            )
        return name

    def key(self, op: str, before: Sequence[Field] | None, after: Sequence[Field] | None) -> bytes | None:
        """The key, UTF-8. Raises one of CONVERSION_ERRORS."""
        if self._key is None:
            return self._plan.own_key(after if after is not None else before)
        if before is None and after is None:
            return None
        return self._fill(self._key, op, before, after).encode("utf-8", "replace")

    def _pieces(self, what: str, template: str, spec: EncoderSpec) -> list[str | _Varying]:
        known = constant_fields(spec, self._plan.relation.schema, self._plan.relation.table)
        pieces: list[str | _Varying] = []
        for at, part in enumerate(FIELD.split(template)):
            # Every second one is the inside of a field.
            pieces.append(part if at % 2 == 0 else known[part] if part in known else self._field(what, part))
        return pieces

    def _field(self, what: str, name: str) -> str | _Varying:
        row, _, wanted = name.partition(".")
        if row == "op":
            return _Varying(row)
        for column in self._plan.columns:
            if column.name == wanted:
                return _Varying(row, column)
        relation = self._plan.relation
        raise OperatorError(
            f"the sink's {what} template has ${{{name}}}, but records of {relation.schema}.{relation.table} have no "
            f'column "{wanted}"',
            hint="take a column that every table of the pipeline has, or give the other tables a pipeline of their own",
        )

    def _fill(
        self, pieces: Sequence[str | _Varying], op: str, before: Sequence[Field] | None, after: Sequence[Field] | None
    ) -> str:
        return "".join(self._text(piece, op, before, after) for piece in pieces)

    def _text(
        self, piece: str | _Varying, op: str, before: Sequence[Field] | None, after: Sequence[Field] | None
    ) -> str:
        if isinstance(piece, str):
            return piece
        if piece.column is None:
            return op
        first, second = (after, before) if piece.row == "after" else (before, after)
        fields = first if first is not None else second
        return _NULL if fields is None else _plain(self._plan.value(piece.column, fields))


def _plain(value: str) -> str:
    """JSON (wire text) as text: a string without its quotes, anything else as it is."""
    # A database in SQL_ASCII may send bytes that are no text.
    text = value.encode("latin-1").decode("utf-8", "replace")
    return str(json.loads(text)) if text.startswith('"') else text
