"""Read what a replication slot holds, with libpq alone, and cut it into TransactionParts. Independent of the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import pq

from deltaforge.model import LogicalMessage, Lsn, Relation, TransactionPart
from deltaforge.pgoutput.decoder import XLOG_HEADER, decode
from deltaforge.pgoutput.messages import Begin, Commit, RelationMessage
from deltaforge.source.catalog import COLUMNS, KEY, TYPES
from deltaforge.source.relations import (
    ColumnFacts,
    RelationFacts,
    TypeRow,
    build_relation,
    build_types,
    parse_relation,
)
from deltaforge.source.session import SETTINGS

if TYPE_CHECKING:
    from tests.support.databases import Database


def read_slot(database: Database, slot: str, publication: str) -> list[bytes]:
    """The CopyData payloads (XLogData) of everything committed so far. The slot is not moved."""
    target = Lsn.parse(database.value("SELECT pg_current_wal_lsn()::text"))
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    connection = pq.PGconn.connect(database.dsn(replication="database", options=options).encode())
    assert connection.status == pq.ConnStatus.OK, connection.error_message
    try:
        result = connection.exec_(
            f"START_REPLICATION SLOT {slot} LOGICAL 0/0 "
            f"(proto_version '1', publication_names '{publication}', messages 'true')".encode()
        )
        assert result.status == pq.ExecStatus.COPY_BOTH, result.error_message
        found: list[bytes] = []
        while True:
            size, data = connection.get_copy_data(0)
            assert size > 0, connection.error_message
            payload = bytes(data)
            if payload[:1] == b"w":
                found.append(payload)
            elif int.from_bytes(payload[1:9], "big") >= target:
                return found
    finally:
        connection.finish()


def transactions(database: Database, payloads: list[bytes]) -> list[TransactionPart]:
    """One part per transaction, Relations filled in from the catalog as it is now."""
    return [item for item in items(database, payloads) if isinstance(item, TransactionPart)]


def items(database: Database, payloads: list[bytes]) -> list[TransactionPart | LogicalMessage]:
    """The transactions, and the logical messages outside of them."""
    found: list[TransactionPart | LogicalMessage] = []
    messages: list[bytes] = []
    relations: list[Relation] = []
    begin: Begin | None = None
    previous = Lsn(0)
    for payload in payloads:
        message = decode(payload[XLOG_HEADER:])
        if isinstance(message, Begin):
            begin, messages, relations = message, [], []
        elif isinstance(message, Commit):
            assert begin is not None
            events = sum(payload[25:26] in b"IUDTM" for payload in messages)
            found.append(
                TransactionPart(
                    begin.xid, begin.commit_lsn, begin.commit_time_us, 0, events, messages, tuple(relations),
                    message.end_lsn, previous, sum(map(len, messages)),
                )
            )  # fmt: skip
            previous, begin = message.end_lsn, None
        elif begin is None:
            found.append(LogicalMessage(Lsn(int.from_bytes(payload[1:9], "big")), payload, previous, len(payload)))
        else:
            messages.append(payload)
            if isinstance(message, RelationMessage):
                relations.append(_relation(database, payload))
    return found


def _relation(database: Database, payload: bytes) -> Relation:
    announced = parse_relation(payload, XLOG_HEADER)
    with database.connect() as connection:
        columns = connection.execute(COLUMNS, {"oid": announced.oid}).fetchall()
        key = connection.execute(KEY, {"oid": announced.oid}).fetchone()
        oids = [column[1] for column in announced.columns]
        types = connection.execute(TYPES, {"oids": oids}).fetchall()
    facts = RelationFacts(
        {name: ColumnFacts(not_null, default) for name, not_null, default in columns}, tuple(key[0]) if key else ()
    )
    return build_relation(announced, facts, build_types({row[0]: TypeRow(*row) for row in types}))
