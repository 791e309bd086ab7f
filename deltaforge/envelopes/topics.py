"""Topic names from a template, and Debezium's rules for what is legal in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deltaforge.errors import UsageError

if TYPE_CHECKING:
    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.model import Relation

LONGEST = 249
"""Characters of a topic name that Kafka takes."""

FIELD = re.compile(r"\$\{([^}]*)\}")
"""A field of a template; its name is the group."""
_CONSTANT = frozenset({"source.schema", "source.table", "source.db", "tenant_id"})
_ILLEGAL = re.compile(r"[^A-Za-z0-9._\-]")


def sanitized(name: str) -> str:
    """`name` with `_` for every character (UTF-16 unit, as Java counts) that a Kafka topic name cannot have.

    What is too long is cut off, and names that are only dots become as many `_`.
    """
    legal = _ILLEGAL.sub(lambda found: "__" if ord(found[0]) > 0xFFFF else "_", name)[:LONGEST]
    return legal.replace(".", "_") if legal in (".", "..") else legal


def names_table(template: str) -> bool:
    """Does each table get a topic of its own?"""
    return {"source.schema", "source.table"} <= set(FIELD.findall(template))


def varies_by_row(template: str) -> bool:
    """Does the topic depend on more than the table?"""
    return bool(set(FIELD.findall(template)) - _CONSTANT)


def constant_fields(spec: EncoderSpec, schema: str, table: str) -> dict[str, str]:
    """What the fields stand for that are the same for every change of `schema.table`."""
    return {"source.schema": schema, "source.table": table, "source.db": spec.database, "tenant_id": spec.tenant}


def own_name(spec: EncoderSpec, schema: str, table: str) -> str:
    """The topic that Debezium would give to `schema.table`."""
    return sanitized(spec.delimiter.join((spec.topic_prefix, schema, table)))


def topic_of(spec: EncoderSpec, relation: Relation) -> str:
    """The topic of a table's records; where that depends on the row, the name that Debezium would give to it."""
    if varies_by_row(spec.topic):
        return own_name(spec, relation.schema, relation.table)
    return topic_name(spec, relation.schema, relation.table)


def topic_name(spec: EncoderSpec, schema: str, table: str) -> str:
    """The topic of the records of `schema.table`, when it does not depend on the row."""
    known = constant_fields(spec, schema, table)

    def fill(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise UsageError(f"topic template field {found[1]!r} is not known to the encoder")
        return known[found[1]]

    return sanitized(FIELD.sub(fill, spec.topic))
