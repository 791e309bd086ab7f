"""What Kafka's tools and topics say, read as it was once recorded from a broker 4.1."""

from __future__ import annotations

import struct

import pytest

from tests.ledger.checkpoints import parse_checkpoint
from tests.ledger.lsn import parse_lsn, show_lsn
from tests.support.partition_logs import Batch, Mark, PartitionLog, parse_logs
from tests.support.topics import Record
from tests.support.transaction_log import TransactionLog

_BATCH = (
    "baseOffset: {0} lastOffset: {1} count: {2} baseSequence: 0 lastSequence: 1 producerId: {3} producerEpoch: {4} "
    "partitionLeaderEpoch: 0 isTransactional: {5} isControl: {6} deleteHorizonMs: OptionalLong.empty position: 0 "
    "CreateTime: {7} size: 6081 magic: 2 compresscodec: lz4 crc: 2288408076 isvalid: true"
)
_RECORD = "| offset: {0} CreateTime: 1795912871141 keySize: 77 valueSize: 622 sequence: 0 headerKeys: [a,b]"
_MARKER = (
    "| offset: {0} CreateTime: 1 keySize: 4 valueSize: 6 sequence: -1 headerKeys: [] "
    "endTxnMarker: {1} coordinatorEpoch: 0"
)
_DUMP = [
    "Dumping /tmp/node-1/data/x.events-0/00000000000000000000.log",
    "Log starting offset: 0",
    _BATCH.format(0, 1, 2, 2, 0, "true", "false", 100),
    _RECORD.format(0),
    _RECORD.format(1),
    _BATCH.format(2, 2, 1, 2, 0, "true", "true", 105),
    _MARKER.format(2, "COMMIT"),
    _BATCH.format(3, 3, 1, 9, 0, "false", "false", 106),
    _BATCH.format(4, 4, 1, 2, 0, "true", "false", 107),
    "Dumping /tmp/node-1/data/x.events-0/00000000000000000005.log",
    _BATCH.format(5, 5, 1, 2, 1, "true", "false", 107),
    _BATCH.format(6, 6, 1, 2, 1, "true", "true", 109),
    _MARKER.format(6, "ABORT"),
    _BATCH.format(7, 7, 1, 2, 2, "true", "false", 110),
    "Dumping /tmp/node-1/data/x.events-1/00000000000000000000.log",
]
_CHECKPOINT = (
    b'{"version":1,"state":"running","system_id":"7713386994523745578","timeline":1,"database":"db_e7c8ccf6a505",'
    b'"slot":"explore","publication":"orders_pub","options":"pgoutput proto_version=1 messages=true publication='
    b'\\"orders_pub\\"","instance":"fec5b9c843e8fac3","seq":1,"commit_lsn":"0/1B06EF0","event_index":1,"anchor":'
    b'{"lsn":"0/1B06EF0","xid":759,"commit_time_us":1795912870937991,"message_crc":null},"last_commit_end_lsn":'
    b'"0/1B06F20","flush_lsn":"0/1B06F20","topics":[{"topic":"x.events","topic_id":"IsEgv1i5R2icCoH9j+F4NQ",'
    b'"high_watermarks":[0,0,0]}],"crc32":"c654396c"}'
)
_ID = b"\x00\x00\x00\x1fdeltaforge.explore.orders-kafka"
_HEAD = b"\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x04\x93\xe0"
_TIMES = b"\x00\x00\x01\xa2$\xbf\xac\xd4\x00\x00\x01\xa2$\xbf\xach\x00"
_PREPARED = (
    _HEAD + b"\x02\x03!_deltaforge.explore.orders-kafka\x02\x00\x00\x00\x00\x00"
    b"\tx.events\x03\x00\x00\x00\x02\x00\x00\x01\x02\x00" + _TIMES
)


def test_a_dump_tells_what_became_of_every_batch() -> None:
    """Guards the line between what committed readers must see and what they must not."""
    logs = parse_logs(line.encode() for line in _DUMP)
    assert set(logs) == {("x.events", 0), ("x.events", 1)}
    log = logs["x.events", 0]
    outcomes = [log.outcome(offset) for offset in (0, 1, 3, 4, 5, 7)]
    assert outcomes == ["committed", "committed", "plain", "aborted", "aborted", "open"]
    counts = [log.count("committed"), log.count("plain"), log.count("aborted"), log.count("open")]
    assert counts == [2, 1, 2, 1]
    assert [(mark.offset, mark.time_ms, mark.committed) for mark in log.markers] == [(2, 105, True), (6, 109, False)]


def test_a_record_that_compaction_took_belongs_to_the_next_marker() -> None:
    """Guards against a record that is told to be in the transaction of the next one that is still there."""
    log = PartitionLog()
    for offset in (3, 7):
        log.end(Mark(offset, 100 + offset, 5, 0, committed=True))
    log.add(Batch(8, 9, 2, 5, 0, transactional=True))
    log.end(Mark(10, 110, 5, 0, committed=True))
    assert [log.section(offset) for offset in (2, 5, 8, 9)] == [0, 1, 2, 2]


def test_two_epochs_in_one_transaction_are_told() -> None:
    """Guards against a fenced producer's rows that its successor's marker makes visible."""
    (log, _) = parse_logs(line.encode() for line in _DUMP).values()
    assert log.mixed == [1]


def test_the_coordinators_log_tells_partitions_and_time_of_a_decision() -> None:
    """Guards the reading of a binary form that only Kafka's source describes."""
    log = TransactionLog()
    log.take(Record(0, 3, _ID, _PREPARED, topic="__transaction_state", time_ms=1795912871127))
    log.take(Record(0, 4, _ID, _HEAD + b"\x04\x01" + _TIMES, topic="__transaction_state", time_ms=1795912871208))
    log.take(Record(0, 5, b"\x00\x01other", b"", topic="__transaction_state"))
    ((name, (decision,)),) = log.decisions.items()
    assert name == "deltaforge.explore.orders-kafka"
    assert decision.places == {("_deltaforge.explore.orders-kafka", 0), ("x.events", 2), ("x.events", 258)}
    assert (decision.time_ms, decision.producer_id, decision.committed) == (1795912871127, 2, True)
    assert log.states == {name: "CompleteCommit"}
    with pytest.raises(ValueError, match="version 3"):
        log.take(Record(0, 6, _ID, struct.pack(">h", 3) + _PREPARED[2:]))


def test_a_checkpoint_is_read_without_the_products_code() -> None:
    """Guards against a judge that believes what it judges."""
    checkpoint = parse_checkpoint(2, 7, b"running", _CHECKPOINT)
    assert (checkpoint.seq, checkpoint.xid, checkpoint.number) == (1, 759, 1)
    assert (show_lsn(checkpoint.commit_lsn), show_lsn(checkpoint.flush_lsn)) == ("0/1B06EF0", "0/1B06F20")
    with pytest.raises(ValueError, match="checksum"):
        parse_checkpoint(2, 7, b"running", _CHECKPOINT.replace(b'"seq":1', b'"seq":2'))
    with pytest.raises(ValueError, match="key"):
        parse_checkpoint(2, 7, b"born", _CHECKPOINT)
    with pytest.raises(ValueError, match="no LSN"):
        parse_lsn("1B06EF0")
