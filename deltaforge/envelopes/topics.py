"""Topic names from a template, and Debezium's rule for what is legal in them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deltaforge.errors import UsageError

if TYPE_CHECKING:
    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.model import Relation

_FIELD = re.compile(r"\$\{([^}]*)\}")
_ILLEGAL = re.compile(r"[^A-Za-z0-9._\-]")


def sanitized(name: str) -> str:
    """`name` with `_` for every character (UTF-16 unit, as Java counts) that a Kafka topic name cannot have."""
    return _ILLEGAL.sub(lambda found: "__" if ord(found[0]) > 0xFFFF else "_", name)


def names_table(template: str) -> bool:
    """Does each table get a topic of its own?"""
    return {"source.schema", "source.table"} <= set(_FIELD.findall(template))


def topic_of(spec: EncoderSpec, relation: Relation) -> str:
    """The topic of a table's records. Only what is put in is sanitized, the template itself is the user's."""
    known = {
        "source.schema": relation.schema,
        "source.table": relation.table,
        "source.db": spec.database,
        "tenant_id": spec.tenant,
    }

    def fill(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise UsageError(f"topic template field {found[1]!r} is not known to the encoder")
        return sanitized(known[found[1]])

    return _FIELD.sub(fill, spec.topic)
