"""The messages of pgoutput as values. Source: PostgreSQL manual, "Logical Replication Message Formats".

LSNs are byte positions, times are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec

from deltaforge.model import Lsn  # noqa: TC001 - msgspec reads the annotations


class Unchanged(Enum):
    """A TOAST value that did not change and was not sent."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED
Value: TypeAlias = bytes | Unchanged | None
"""Text in the client encoding, NULL, or unchanged TOAST."""


class Begin(msgspec.Struct, frozen=True):
    """A committed transaction starts."""

    commit_lsn: Lsn
    commit_time_us: int
    xid: int


class Commit(msgspec.Struct, frozen=True):
    """The transaction ends. `end_lsn` is where its commit record ends."""

    commit_lsn: Lsn
    end_lsn: Lsn
    commit_time_us: int


class Origin(msgspec.Struct, frozen=True):
    """The transaction was first committed elsewhere, at `commit_lsn` of that server."""

    commit_lsn: Lsn
    name: str


class RelationColumn(msgspec.Struct, frozen=True):
    """One column of a Relation message."""

    identity: bool
    name: str
    type_oid: int
    modifier: int


class RelationMessage(msgspec.Struct, frozen=True):
    """A table as it is for the changes that follow. `schema` is `pg_catalog` where the wire has an empty string."""

    oid: int
    schema: str
    table: str
    identity: str
    columns: tuple[RelationColumn, ...]


class TypeMessage(msgspec.Struct, frozen=True):
    """A type that is not built in, ahead of the Relation that uses it."""

    oid: int
    schema: str
    name: str


class Insert(msgspec.Struct, frozen=True):
    """A new row."""

    relation: int
    new: tuple[Value, ...]


class Update(msgspec.Struct, frozen=True):
    """A changed row. `old` is there when the identity changed or is FULL; `whole` tells a full row from key columns."""

    relation: int
    new: tuple[Value, ...]
    old: tuple[Value, ...] | None = None
    whole: bool = False


class Delete(msgspec.Struct, frozen=True):
    """A row that is gone: its key columns, or all of it (`whole`)."""

    relation: int
    old: tuple[Value, ...]
    whole: bool = False


class Truncate(msgspec.Struct, frozen=True):
    """Tables emptied together."""

    relations: tuple[int, ...]
    cascade: bool
    restart_identity: bool


class Message(msgspec.Struct, frozen=True):
    """pg_logical_emit_message."""

    transactional: bool
    lsn: Lsn
    prefix: str
    content: bytes


PgOutput: TypeAlias = (
    Begin | Commit | Origin | RelationMessage | TypeMessage | Insert | Update | Delete | Truncate | Message
)
