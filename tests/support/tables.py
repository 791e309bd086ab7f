"""Small tables for tests of stages that need a Relation: columns by type name, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltaforge.model import Column, Lsn, PgType, Relation, TransactionPart
from tests.support.pgoutput_bytes import relation as relation_message

if TYPE_CHECKING:
    from collections.abc import Sequence

OIDS = {
    "bool": 16, "bytea": 17, "name": 19, "int8": 20, "int2": 21, "int4": 23, "text": 25, "oid": 26, "json": 114,
    "xml": 142, "float4": 700, "float8": 701, "inet": 869, "bpchar": 1042, "varchar": 1043, "date": 1082, "time": 1083,
    "timestamp": 1114, "timestamptz": 1184, "interval": 1186, "timetz": 1266, "bit": 1560, "varbit": 1562,
    "numeric": 1700, "uuid": 2950, "jsonb": 3802, "tsquery": 3615, "tsvector": 3614, "polygon": 604, "money": 790,
    "oidvector": 30, "isbn": 17_000,
}  # fmt: skip


def pg_type(name: str) -> PgType:
    """A built-in type; `[]` behind the name makes it an array (with an oid of no real type)."""
    if name.endswith("[]"):
        element = pg_type(name[:-2])
        return PgType(100_000 + element.oid, f"_{element.name}", "b", "pg_catalog", element)
    return PgType(OIDS[name], name)


def numeric(precision: int, scale: int) -> int:
    """The type modifier of numeric(precision, scale)."""
    return (precision << 16 | scale & 0x7FF) + 4


def column(
    name: str,
    kind: str,
    modifier: int = -1,
    *,
    identity: bool = False,
    not_null: bool = False,
    default: str | None = None,
) -> Column:
    """A column of a built-in type."""
    return Column(name, pg_type(kind), modifier, identity, not_null, default)


def table(
    *columns: Column, name: str = "t", oid: int = 16400, identity: str = "d", key: Sequence[int] = (0,)
) -> Relation:
    """A table in schema public whose key is its first column."""
    return Relation(oid, "public", name, identity, columns, tuple(key))


def part_of(
    messages: Sequence[bytes],
    relations: Sequence[Relation] = (),
    *,
    first_index: int = 0,
    commit_lsn: int = 0x16B374D848,
    previous_end: int = 0,
) -> TransactionPart:
    """A whole transaction: Relation messages for `relations`, then `messages`, all of which are events or Origins."""
    every = [*map(relation_message, relations), *messages]
    events = sum(message[25:26] in b"IUDTM" for message in every)
    return TransactionPart(
        xid=738,
        commit_lsn=Lsn(commit_lsn),
        commit_time_us=1_795_417_205_432_551,
        first_index=first_index,
        events=events,
        messages=every,
        relations=tuple(relations),
        end_lsn=Lsn(commit_lsn + 48),
        previous_end=Lsn(previous_end),
        nbytes=sum(map(len, every)),
    )
