"""A checkpoint as the bytes of one Kafka record, and back.

The key is the state (`creating`, `born`, `running`), so that compaction keeps the newest record of each. The value is
one line of JSON, readable with a console consumer:

    version               format version, an integer; this module writes 1
    state                 the key again
    system_id timeline database slot publication
                          which server, history, database, slot and publication the position belongs to
    options               fingerprint of everything that decides which messages the stream holds
    instance seq          who wrote it (random per process), and its rising number
    commit_lsn event_index
                          commit LSN of the transaction, index of its last durable event; 0/0 and -9 at first
    anchor                how to recognise the transaction again: {lsn, xid, commit_time_us, message_crc}, or null
    last_commit_end_lsn   end LSN of the last commit (Debezium's source.sequence)
    flush_lsn             highest LSN that may be confirmed to PostgreSQL
    topics                data topics: [{topic, topic_id, high_watermarks: [per partition]}]
    crc32                 CRC-32 of everything before this field, eight hex digits

LSNs are written in PostgreSQL's notation. Times are microseconds since 1970 UTC.

Rule 1: `version` and the trailing `crc32` keep their place and meaning in every later format, so that an old program
        can tell a newer record from a damaged one.
Rule 2: a reader ignores fields it does not know; whatever it must not ignore needs a new version.
"""

from __future__ import annotations

import zlib

import msgspec

from deltaforge.errors import Refused
from deltaforge.model import Anchor, Checkpoint, Lsn, Position, Progress, TopicMark

VERSION = 1
STATES = ("creating", "born", "running")

_TAIL = b',"crc32":"%08x"}'
_TAIL_LENGTH = len(_TAIL % 0)


class _Version(msgspec.Struct):
    version: int


class _AnchorRecord(msgspec.Struct, frozen=True):
    lsn: str
    xid: int
    commit_time_us: int
    message_crc: int | None


class _Record(msgspec.Struct, frozen=True):
    version: int
    state: str
    system_id: str
    timeline: int
    database: str
    slot: str
    publication: str
    options: str
    instance: str
    seq: int
    commit_lsn: str
    event_index: int
    anchor: _AnchorRecord | None
    last_commit_end_lsn: str
    flush_lsn: str
    topics: tuple[TopicMark, ...]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Record)
_version_decoder = msgspec.json.Decoder(_Version)


def encode(checkpoint: Checkpoint) -> tuple[bytes, bytes]:
    """Key and value of the Kafka record for `checkpoint`."""
    progress = checkpoint.progress
    anchor = progress.anchor
    body = _encoder.encode(
        _Record(
            version=VERSION,
            state=checkpoint.state,
            system_id=checkpoint.system_id,
            timeline=checkpoint.timeline,
            database=checkpoint.database,
            slot=checkpoint.slot,
            publication=checkpoint.publication,
            options=checkpoint.options,
            instance=checkpoint.instance,
            seq=checkpoint.seq,
            commit_lsn=str(progress.position.commit_lsn),
            event_index=progress.position.index,
            anchor=None if anchor is None else _anchor_record(anchor),
            last_commit_end_lsn=str(progress.last_commit_end_lsn),
            flush_lsn=str(progress.flush_lsn),
            topics=checkpoint.topics,
        )
    )[:-1]
    return checkpoint.state.encode(), body + _TAIL % zlib.crc32(body)


def decode(key: bytes | None, value: bytes, *, where: str = "the checkpoint record") -> Checkpoint:
    """Read a record. `where` names topic and offset for the error text.

    Raises:
      Refused: the bytes are damaged, not ours, or of a newer format.
    """
    if len(value) <= _TAIL_LENGTH or value[-_TAIL_LENGTH:] != _TAIL % zlib.crc32(value[:-_TAIL_LENGTH]):
        raise _damaged(where, "its checksum does not match")
    try:
        version = _version_decoder.decode(value).version
        if version > VERSION:
            raise _newer(where, version)
        record = _decoder.decode(value)
        checkpoint = _checkpoint(record)
    except (msgspec.DecodeError, ValueError):
        raise _damaged(where, "its fields are not those of a checkpoint") from None
    if checkpoint.state not in STATES or key != checkpoint.state.encode():
        raise _damaged(where, f"key {_shown(key)} and state {checkpoint.state!r} do not fit")
    return checkpoint


def _checkpoint(record: _Record) -> Checkpoint:
    anchor = record.anchor
    progress = Progress(
        position=Position(Lsn.parse(record.commit_lsn), record.event_index),
        anchor=None if anchor is None else _anchor(anchor),
        last_commit_end_lsn=Lsn.parse(record.last_commit_end_lsn),
        flush_lsn=Lsn.parse(record.flush_lsn),
    )
    return Checkpoint(
        state=record.state,
        system_id=record.system_id,
        timeline=record.timeline,
        database=record.database,
        slot=record.slot,
        publication=record.publication,
        options=record.options,
        instance=record.instance,
        seq=record.seq,
        progress=progress,
        topics=record.topics,
    )


def _anchor_record(anchor: Anchor) -> _AnchorRecord:
    return _AnchorRecord(str(anchor.lsn), anchor.xid, anchor.commit_time_us, anchor.message_crc)


def _anchor(record: _AnchorRecord) -> Anchor:
    return Anchor(Lsn.parse(record.lsn), record.xid, record.commit_time_us, record.message_crc)


def _shown(key: bytes | None) -> str:
    return "none" if key is None else repr(key[:20].decode("ascii", "replace"))


def _newer(where: str, version: int) -> Refused:
    return Refused(
        f"{where} has format version {version}; this deltaforge reads up to version {VERSION}",
        hint="start the newer deltaforge again; going back is not possible once it has written a checkpoint",
    )


def _damaged(where: str, why: str) -> Refused:
    return Refused(
        f"{where} is not a checkpoint that deltaforge wrote: {why}",
        hint="find out who writes to this topic; restore the topic, or empty it and start with --adopt-slot",
    )
