"""All there is to know about writing one table's rows, worked out once per Relation and EncoderSpec.

Rule 1: a plan depends on the content of the Relation and on the spec only, so equal Relations may share one.
Rule 2: `row` and `key` are the ordinary way from fields to JSON; generated code must give the same bytes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from deltaforge.envelopes.defaults import default_json, null_json
from deltaforge.envelopes.fields import UNSENT, Field
from deltaforge.envelopes.jsontext import quote, quoted_name
from deltaforge.envelopes.keyheaders import header_rendering
from deltaforge.envelopes.recordschemas import key_schema, opening, value_schema
from deltaforge.envelopes.rownames import RowNames
from deltaforge.envelopes.topics import own_name, topic_of, varies_by_row
from deltaforge.envelopes.values import NEVER, Rendering, rendering
from deltaforge.errors import OperatorError
from deltaforge.patterns import chosen, key_choices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.model import Column, Lsn, Relation

IDENTIFIER = "__dbz__physicalTableIdentifier"
CONVERSION_ERRORS = (ValueError, ArithmeticError, KeyError, IndexError)
"""What a converter may raise for a value that its type rules forbid."""


class PlanColumn(msgspec.Struct, frozen=True):
    """One column that appears in the records."""

    index: int
    name: str
    label: str
    """`"name":` as wire text."""
    rendering: Rendering
    null: str
    """JSON for NULL."""
    identity: bool


class Plan:
    """Columns, key, topic and constants of one table."""

    def __init__(self, relation: Relation, spec: EncoderSpec) -> None:
        self.relation = relation
        self._values = spec.values
        self.count = len(relation.columns)
        self.collection = f"{relation.schema}.{relation.table}"
        """Debezium's name of the table: neither quoted nor sanitized."""
        self._choose(spec)
        self.topic = topic_of(spec, relation)
        physical = own_name(spec, relation.schema, relation.table)
        comma = "," if self.key_columns else ""
        self.key_end = f'{comma}"{IDENTIFIER}":{quote(physical)}}}' if spec.add_table_identifier else "}"
        self._open(spec)
        self.schema_json = quoted_name(relation.schema)
        self.table_json = quoted_name(relation.table)
        self.names = RowNames(self, spec) if spec.key or varies_by_row(spec.topic) else None
        """Topic and key where they depend on the row."""

    def _choose(self, spec: EncoderSpec) -> None:
        """Which columns rows and keys have."""
        wanted = chosen(("column.include.list", spec.columns_included), ("column.exclude.list", spec.columns_excluded))
        self._facts: dict[int, Column] = {}
        found: dict[int, PlanColumn] = {}
        hidden = set()
        omitted: list[str] = []
        for index, column in enumerate(self.relation.columns):
            form = rendering(column.type, column.modifier, spec.values)
            if not wanted(f"{self.collection}.{column.name}"):
                # Debezium asks the catalog nothing about it: to the key it has no default and may be NULL.
                hidden.add(index)
                column = msgspec.structs.replace(column, not_null=False, default=None)
            elif form is None:
                omitted.append(column.name)
            if form is not None:
                label, null = quoted_name(column.name) + ":", null_json(column, form, spec.values)
                if form.convert is NEVER.convert:
                    form = msgspec.structs.replace(form, convert=partial(_constant, null))
                if form.unavailable == "null" and spec.values.null_defaults:
                    # To the converter a null like any other.
                    form = msgspec.structs.replace(form, unavailable=default_json(column.default, form) or "null")
                self._facts[index] = column
                found[index] = PlanColumn(index, column.name, label, form, null, column.identity)
        self.columns = tuple(column for index, column in found.items() if index not in hidden)
        self.omitted = tuple(omitted)
        """Names of columns whose type has no JSON form."""
        key = self._chosen_key(spec.key_columns) or self.relation.key
        self.key_columns = tuple(found[index] for index in key if index in found)
        self.keyed = bool(key)
        """Do records have keys? One whose columns have no JSON form is an empty object."""

    def _chosen_key(self, choices: str) -> list[int]:
        """The columns that message.key.columns names, in its order; none = the table's own key."""
        if not choices:
            return []
        names = [f"{self.collection}.{column.name}" for column in self.relation.columns]
        matches = [
            index for choice in key_choices(choices) for index, name in enumerate(names) if choice.fullmatch(name)
        ]
        return list(dict.fromkeys(matches))

    def _open(self, spec: EncoderSpec) -> None:
        """What keys and values begin with, and what closes the keys."""
        self.key_start, self.value_schema = "{", ""
        if spec.key_schemas:
            identifier = IDENTIFIER if spec.add_table_identifier else None
            schema = key_schema(self.topic, self._described(self.key_columns), spec.values, identifier)
            self.key_start, self.key_end = opening(schema) + "{", self.key_end + "}"
        if spec.value_schemas:
            self.value_schema = opening(value_schema(self.topic, self._described(self.columns), spec.values))
        self.value_start = self.value_schema + '{"before":'

    def _described(self, columns: Sequence[PlanColumn]) -> list[tuple[Column, Rendering]]:
        return [(self._facts[column.index], column.rendering) for column in columns]

    def row(self, fields: Sequence[Field]) -> str:
        """The JSON object of one row. Raises one of CONVERSION_ERRORS."""
        return f"{{{','.join(_members(self.columns, fields))}}}"

    def key(self, fields: Sequence[Field]) -> str | None:
        """The inside of the key object, without braces and identifier; None for a table without a key."""
        return ",".join(_members(self.key_columns, fields)) if self.keyed else None

    def own_key(self, fields: Sequence[Field] | None) -> bytes | None:
        """The key as Debezium writes it; None without a row, or for a table without a key."""
        inside = None if fields is None else self.key(fields)
        return None if inside is None else f"{self.key_start}{inside}{self.key_end}".encode("latin-1")

    def value(self, column: PlanColumn, fields: Sequence[Field]) -> str:
        """The JSON of one column. Raises one of CONVERSION_ERRORS."""
        return _value(column, fields[column.index])

    def key_header(self, fields: Sequence[Field]) -> bytes:
        """The key in a header of a change of keys, without identifier. Raises one of CONVERSION_ERRORS."""
        members = ",".join(_members(self._header_columns(), fields))
        return f"{{{members}}}".encode("latin-1") if self.keyed else b"null"

    def _header_columns(self) -> list[PlanColumn]:
        facts = [(column, self._facts[column.index]) for column in self.key_columns]
        return [
            msgspec.structs.replace(
                column, rendering=header_rendering(fact.type, fact.modifier, column.rendering, self._values)
            )
            for column, fact in facts
        ]

    def blame(self, fields: Sequence[Field], lsn: Lsn) -> OperatorError | None:
        """Find the value that cannot be written and say where it is, without saying what it is."""
        for column in self.columns:
            field = fields[column.index]
            if not isinstance(field, str):
                continue
            try:
                column.rendering.convert(field)
            except CONVERSION_ERRORS:
                relation = self.relation
                kind = relation.columns[column.index].type.name
                return OperatorError(
                    f'column "{column.name}" ({kind}) of {relation.schema}.{relation.table} holds, in the change at '
                    f"{lsn}, a value that has no form in Debezium's JSON",
                    hint="NaN and infinity in numeric and infinite intervals are such values: take the table or the "
                    "column out of the publication for this change, and keep such values out with a CHECK constraint",
                )
        return None


def _constant(json: str, _: str) -> str:
    return json


def _members(columns: Sequence[PlanColumn], fields: Sequence[Field]) -> list[str]:
    """`"name":value` of each column. Raises one of CONVERSION_ERRORS."""
    return [column.label + _value(column, fields[column.index]) for column in columns]


def _value(column: PlanColumn, field: Field) -> str:
    if field is None:
        return column.null
    return column.rendering.unavailable if field is UNSENT else column.rendering.convert(field)
