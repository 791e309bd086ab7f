"""What to say about a publication and the configured tables. Pure: rows of the catalog in, report or error out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from deltaforge.errors import OperatorError
from deltaforge.source.tables import is_exact, lacking, matches, selected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Publication(msgspec.Struct, frozen=True):
    """A row of pg_publication; `name` is quoted as SQL needs it."""

    name: str
    exists: bool
    all_tables: bool | None
    inserts: bool | None
    updates: bool | None
    deletes: bool | None
    truncates: bool | None


class Published(msgspec.Struct, frozen=True):
    """A table of the publication."""

    schema: str
    table: str
    row_filter: bool
    column_list: bool


class Existing(msgspec.Struct, frozen=True):
    """A table of the database. `kind`: r(egular), p(artitioned), partition. `quoted` is its name as SQL needs it."""

    schema: str
    table: str
    quoted: str
    kind: str
    identity: str
    has_primary_key: bool
    has_identity_index: bool

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"


class PublicationReport(msgspec.Struct, frozen=True):
    """What the pipeline will stream, and what somebody should know about it."""

    tables: tuple[str, ...]
    """Published tables that the configuration means, as schema.table."""
    warnings: tuple[str, ...]


def report(
    patterns: Sequence[str],
    publication: Publication,
    published: Sequence[Published],
    existing: Sequence[Existing],
    quoted: Mapping[str, str],
) -> PublicationReport:
    """Judge the publication. `quoted` has the SQL name of every exact pattern.

    Raises:
      OperatorError: the publication is missing, or lacks a table that is named exactly.
    """
    if not publication.exists:
        raise _missing(patterns, publication, existing, quoted)
    names = [(entry.schema, entry.table) for entry in published]
    if absent := lacking(patterns, names):
        raise _lacks(absent, publication, existing, quoted)
    tables = tuple(f"{schema}.{table}" for schema, table in names if selected(patterns, schema, table))
    warnings = [*_operations(publication), *_patterns(patterns, names, existing, publication)]
    warnings += _filters(published, tables)
    warnings += _identities(existing, tables)
    return PublicationReport(tables, tuple(warnings))


def _missing(
    patterns: Sequence[str], publication: Publication, existing: Sequence[Existing], quoted: Mapping[str, str]
) -> OperatorError:
    # Partitions come with their root.
    found = {e.quoted for e in existing if e.kind != "partition" and selected(patterns, e.schema, e.table)}
    wanted = sorted(found | {quoted[p] for p in patterns if is_exact(p)})
    tables = ", ".join(wanted) if wanted else "<the tables>"
    return OperatorError(
        f"publication {publication.name} does not exist",
        hint=f"create it: CREATE PUBLICATION {publication.name} FOR TABLE {tables};",
    )


def _lacks(
    absent: Sequence[str], publication: Publication, existing: Sequence[Existing], quoted: Mapping[str, str]
) -> OperatorError:
    by_name = {entry.name: entry for entry in existing}
    unknown = [name for name in absent if name not in by_name]
    if unknown:
        return OperatorError(f"no table {', '.join(unknown)} in this database", hint="correct `tables`, or create them")
    message = f"publication {publication.name} lacks {', '.join(absent)}"
    if publication.all_tables or any(by_name[name].kind == "p" for name in absent):
        rooted = f"ALTER PUBLICATION {publication.name} SET (publish_via_partition_root = true);"
        return OperatorError(f"{message}: it publishes the partitions instead", hint=f"configure those, or {rooted}")
    added = ", ".join(quoted[name] for name in absent)
    return OperatorError(message, hint=f"add it: ALTER PUBLICATION {publication.name} ADD TABLE {added};")


def _operations(publication: Publication) -> list[str]:
    flags = {
        "insert": publication.inserts,
        "update": publication.updates,
        "delete": publication.deletes,
        "truncate": publication.truncates,
    }
    left_out = [name for name, on in flags.items() if not on]
    return [f"publication {publication.name} does not publish {', '.join(left_out)}"] if left_out else []


def _patterns(
    patterns: Sequence[str], names: Sequence[tuple[str, str]], existing: Sequence[Existing], publication: Publication
) -> list[str]:
    published = set(names)
    warnings = []
    for pattern in patterns:
        if is_exact(pattern):
            continue
        if not any(matches(pattern, *name) for name in names):
            warnings.append(f"no table of publication {publication.name} matches {pattern}")
        wanted = [e for e in existing if e.kind == "r" and matches(pattern, e.schema, e.table)]
        silent = [e.name for e in wanted if (e.schema, e.table) not in published]
        if silent:
            warnings.append(f"publication {publication.name} lacks {', '.join(silent)}, which {pattern} matches")
    return warnings


def _filters(published: Sequence[Published], tables: Sequence[str]) -> list[str]:
    warnings = []
    for entry in published:
        name = f"{entry.schema}.{entry.table}"
        if name in tables and entry.row_filter:
            warnings.append(f"the publication has a row filter on {name}: rows it hides are not streamed")
        if name in tables and entry.column_list:
            warnings.append(f"the publication has a column list on {name}: the other columns are not streamed")
    return warnings


def _identities(existing: Sequence[Existing], tables: Sequence[str]) -> list[str]:
    warnings = []
    for entry in existing:
        indexed = {"d": entry.has_primary_key, "i": entry.has_identity_index, "f": True}.get(entry.identity, False)
        if entry.name in tables and not indexed:
            warnings.append(
                f"{entry.name} has no replica identity: UPDATE and DELETE on it fail while it is published; "
                f"add a primary key, or ALTER TABLE {entry.quoted} REPLICA IDENTITY FULL"
            )
    return warnings
