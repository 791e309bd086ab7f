"""Which tables the configuration means. Pure.

A pattern is `schema.table`; each part is an exact name, or ends in `%` for "whatever follows". `_` is a letter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def is_exact(pattern: str) -> bool:
    """Whether the pattern names one table."""
    return "%" not in pattern


def matches(pattern: str, schema: str, table: str) -> bool:
    """Whether the pattern means this table."""
    schema_part, _, table_part = pattern.partition(".")
    return _part(schema_part, schema) and _part(table_part, table)


def selected(patterns: Iterable[str], schema: str, table: str) -> bool:
    """Whether any of the patterns means this table."""
    return any(matches(pattern, schema, table) for pattern in patterns)


def lacking(patterns: Sequence[str], published: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The exact names among the patterns that are not published."""
    names = {f"{schema}.{table}" for schema, table in published}
    return tuple(pattern for pattern in patterns if is_exact(pattern) and pattern not in names)


def _part(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("%") else name == pattern
