"""Random but well-formed replication streams, with tables of all types, from a `random.Random`.

`stream` gives the bytes PostgreSQL would send and the catalog that says what the tables are. Tables change on the way,
are announced again in the midst of a transaction, and values are often at the edges (pgvalues.py).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from deltaforge.envelopes import options
from deltaforge.envelopes.base import EncoderSpec, spec_for
from deltaforge.model import Column, Relation
from deltaforge.source.relations import ColumnFacts, RelationFacts, build_relation, parse_relation
from tests.support import pgoutput_bytes as wire
from tests.support.pgvalues import COMMON, RARE, TYPES, Kind, text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

NAMES = ("id", "Name", 'qu"ote', "spa ce", "größe", "😀", "new\nline", "back\\slash", "'", "8314159265358979", "ключ")
DEFAULTS = (None, None, None, "5", "'x'::text", "now()", "(1 + 1)", "true", "'{}'::text[]", "'2020-01-02'::date")
CLOCK_US = (wire.PG_EPOCH_US, 0, 1_795_417_205_432_551, -1, -999, 2**62)
Value = bytes | None
UNSENT = object()


@dataclass
class Table:
    """A table as it is now."""

    oid: int
    kinds: list[Kind]
    relation: Relation


@dataclass
class Catalog:
    """What the server's catalog says beside the stream."""

    facts: dict[int, RelationFacts] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    """Oids of tables that the configuration does not name."""

    def relation(self, message: bytes) -> Relation:
        """What the reader makes of a Relation message. Raises ProtocolViolation."""
        announced = parse_relation(message, 25)
        found = build_relation(announced, self.facts.get(announced.oid, RelationFacts()), TYPES)
        if announced.oid not in self.hidden:
            return found
        return Relation(found.oid, found.schema, found.table, found.identity, found.columns, found.key, False)


@dataclass
class Stream:
    """CopyData payloads and the catalog that goes with them."""

    payloads: list[bytes] = field(default_factory=list)
    catalog: Catalog = field(default_factory=Catalog)


def stream(r: Random, transactions: int = 5) -> Stream:
    """A stream from the start of a connection."""
    return _Writer(r).stream(transactions)


class _Writer:
    def __init__(self, r: Random) -> None:
        self._r = r
        self._out = Stream()
        self._lsn = r.choice((1000, 2**32 - 40, 2**40))
        self._announced: dict[int, Table] = {}

    def stream(self, transactions: int) -> Stream:
        r = self._r
        tables = [self._table(16400 + number) for number in range(r.randint(1, 3))]
        for _ in range(r.randint(1, transactions)):
            if r.random() < 0.1:
                self._add(wire.keepalive(self._step()))
            if r.random() < 0.1:
                self._add(wire.message("p", text(r), self._step(), transactional=False))
            self._transaction(tables)
        return self._out

    def _add(self, payload: bytes) -> None:
        self._out.payloads.append(payload)

    def _step(self) -> int:
        self._lsn += self._r.randint(1, 90)
        return self._lsn

    def _transaction(self, tables: list[Table]) -> None:
        r = self._r
        commit_lsn, clock = self._lsn + 10_000, r.choice(CLOCK_US)
        self._add(wire.begin(commit_lsn, clock, r.getrandbits(32), self._lsn))
        if r.random() < 0.15:
            self._add(wire.origin(r.choice(("", "north", 'no"rth', "ö")), r.getrandbits(64)))
        for _ in range(r.choice((0, 1, 1, 1, 2, 3))):
            number = r.randrange(len(tables))
            if r.random() < 0.1:
                tables[number] = self._altered(tables[number])
            self._announce(tables[number])
            for _ in range(r.choice((1, 1, 2, 5))):
                self._event(tables[number], tables)
        self._lsn = commit_lsn
        self._add(wire.commit(commit_lsn, self._step(), clock))

    def _announce(self, table: Table) -> None:
        if self._announced.get(table.oid) is not table or self._r.random() < 0.05:
            self._announced[table.oid] = table
            if self._r.random() < 0.2:
                self._add(wire.type_(90001, "public", "mood"))
            self._add(wire.relation(table.relation))

    def _event(self, table: Table, tables: list[Table]) -> None:
        r = self._r
        what = r.random()
        if what < 0.04:
            self._add(wire.message(r.choice(("p", 'q"', "ö")), text(r), self._step()))
        elif what < 0.07:
            named = [other.oid for other in tables if other.oid in self._announced]
            self._add(wire.truncate(named, self._step()))
        elif what < 0.55:
            row = self._row(table)
            for _ in range(r.choice((1, 1, 2))):
                self._change(b"I", table, b"N" + tuple_of(row))
        elif what < 0.85:
            self._update(table)
        else:
            old, mark = self._old(table, self._row(table))
            self._change(b"D", table, mark + tuple_of(old))

    def _change(self, tag: bytes, table: Table, rest: bytes) -> None:
        self._add(wire.xlog(tag + struct.pack(">I", table.oid) + rest, self._step()))

    def _update(self, table: Table) -> None:
        r = self._r
        row = self._row(table)
        old: bytes = b""
        if r.random() < 0.6:
            before = list(row) if r.random() < 0.7 else self._row(table)
            fields, mark = self._old(table, before)
            old = mark + tuple_of(fields)
        new = [UNSENT if r.random() < 0.08 else value for value in row]
        self._change(b"U", table, old + b"N" + tuple_of(new))

    def _old(self, table: Table, row: list[Any]) -> tuple[list[Any], bytes]:
        if table.relation.identity == "f" or self._r.random() < 0.1:
            return row, b"O"
        columns = table.relation.columns
        return [value if column.identity else None for value, column in zip(row, columns, strict=True)], b"K"

    def _row(self, table: Table) -> list[Any]:
        r = self._r
        nulls = r.choice((0.0, 0.0, 0.1, 0.5))
        return [self._value(kind) if r.random() >= nulls else None for kind in table.kinds]

    def _value(self, kind: Kind) -> bytes:
        # Now and then what the type does not print.
        return kind.draw(self._r) if self._r.random() < 0.998 else self._r.choice(COMMON).draw(self._r)

    def _table(self, oid: int) -> Table:
        r = self._r
        count = r.choice((1, 2, 3, 4, 5, 6, 7, 8)) if r.random() < 0.9 else r.choice((0, 20, 70))
        kinds = [r.choice(COMMON) if r.random() < 0.75 else r.choice(RARE) for _ in range(count)]
        return self._built(oid, kinds)

    def _altered(self, table: Table) -> Table:
        """The same table with a column more, less, or of another type."""
        r = self._r
        kinds = list(table.kinds)
        if kinds and r.random() < 0.6:
            kinds.pop(r.randrange(len(kinds)))
        if r.random() < 0.6:
            kinds.insert(r.randint(0, len(kinds)), r.choice(COMMON))
        return self._built(table.oid, kinds)

    def _built(self, oid: int, kinds: list[Kind]) -> Table:
        r = self._r
        identity = r.choice("ddfin")
        columns = []
        for number, kind in enumerate(kinds):
            name = r.choice(NAMES) + (str(number) if number else "")
            flagged = identity == "f" or (identity != "n" and (number == 0 or r.random() < 0.2))
            columns.append(
                Column(name, kind.type, r.choice(kind.modifiers), flagged, r.random() < 0.5, r.choice(DEFAULTS))
            )
        wanted = [r.randrange(len(kinds)) for _ in range(r.choice((0, 1, 1, 1, 2)))] if kinds else []
        key = [0] if kinds and r.random() < 0.6 else list(dict.fromkeys(wanted))
        names = [column.name for column in columns]
        facts = {column.name: ColumnFacts(column.not_null, column.default) for column in columns}
        self._out.catalog.facts[oid] = RelationFacts(facts, tuple(names[index] for index in key))
        if oid == 16402 and r.random() < 0.5:
            self._out.catalog.hidden.add(oid)
        table = r.choice(("t", "Odd Nяme😀", 'x"y', "8314159265358979"))
        return Table(oid, kinds, Relation(oid, "public", table, identity, tuple(columns), tuple(key)))


def tuple_of(values: Sequence[Any]) -> bytes:
    """TupleData of bytes, None and UNSENT."""
    out = struct.pack(">H", len(values))
    for value in values:
        if value is None:
            out += b"n"
        elif value is UNSENT:
            out += b"u"
        else:
            out += b"t" + struct.pack(">I", len(value)) + value
    return out


def encoder_settings(r: Random) -> EncoderSpec:
    """Settings whose rows the compiled encoder writes."""
    values = options.ValueOptions(
        decimal=r.choice(get_args(options.DecimalMode)),
        time=r.choice(get_args(options.TimeMode)),
        interval=r.choice(get_args(options.IntervalMode)),
        hstore=r.choice(get_args(options.HstoreMode)),
        binary=r.choice(get_args(options.BinaryMode)),
        money_digits=r.choice((0, 2, 4)),
        unknown=r.random() < 0.5,
        placeholder=r.choice(("__debezium_unavailable_value", "hex:00ff", "ö\n", "")),
        null_defaults=r.random() < 0.7,
    )
    return spec_for(
        topic=r.choice(("gold.${source.schema}.${source.table}", "all")),
        topic_prefix=r.choice(("gold", 'g"ö')),
        database=r.choice(("golddb", "d\\b")),
        skipped_operations=r.choice(("t", "", "c", "u", "d", "cdt")),
        tombstones=r.random() < 0.8,
        position_headers=r.random() < 0.3,
        values=values if r.random() < 0.5 else options.ValueOptions(),
        key_schemas=r.random() < 0.2,
        value_schemas=r.random() < 0.2,
        message_topic=r.choice(("", "gold.message")),
        columns_excluded=r.choice(("", "", "", r"public\..*\.(Name|größe).*")),
        key_columns=r.choice(("", "", "", r"public\.t:Name\d,id;(.*)\.t:ключ")),
    )
