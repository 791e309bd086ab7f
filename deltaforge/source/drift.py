"""What the configuration says of tables that come along the stream: which ones it means, and may they change shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from deltaforge.errors import OperatorError
from deltaforge.source.tables import selected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deltaforge.model import Relation

    Shape = tuple[tuple[str, int, int], ...]


class SchemaDrift(OperatorError):
    """A table's columns changed and the configuration asks to stop then."""

    hint = "restart deltaforge to go on with the new columns, or set on_schema_drift: adapt"


class Catalog:
    """Tables seen since the process started. A restart accepts whatever shape it finds.

    Args:
      patterns: the configured tables; none means all.
      halt_on_drift: whether a changed shape stops the stream.
    """

    def __init__(self, patterns: Sequence[str] = (), *, halt_on_drift: bool = False) -> None:
        self._patterns, self._halt = patterns, halt_on_drift
        self._shapes: dict[int, Shape] = {}

    def judged(self, relation: Relation) -> Relation:
        """The relation, marked when the configuration does not mean it.

        Raises:
          SchemaDrift: its columns are not the ones seen before.
        """
        if self._patterns and not selected(self._patterns, relation.schema, relation.table):
            return msgspec.structs.replace(relation, selected=False)
        if self._halt:
            shape = tuple((column.name, column.type.oid, column.modifier) for column in relation.columns)
            if self._shapes.setdefault(relation.oid, shape) != shape:
                raise SchemaDrift(f"the columns of {relation.schema}.{relation.table} have changed")
        return relation
