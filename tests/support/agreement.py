"""Two encoders side by side over one replication stream, the way a pipeline feeds them: they have to agree.

Rule 1: the Python form says what is right: records, counters, errors with their text, and notes.
Rule 2: whatever the bytes are, an error is one of deltaforge.errors.
Rule 3: no record is made of a change that the strict decoder (deltaforge.pgoutput) refuses.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any

from deltaforge import runs
from deltaforge.envelopes.base import Encoded, Encoder
from deltaforge.envelopes.debezium import DebeziumEncoder
from deltaforge.errors import DeltaforgeError, ProtocolViolation
from deltaforge.model import LogicalMessage, Lsn, TransactionPart, TransactionRun, WalChunk
from deltaforge.pgoutput.decoder import decode_xlog
from deltaforge.sinks.kafka.partition import partitions_slowly
from deltaforge.source.frames import Survey, survey_slowly
from deltaforge.transactions.assembler import Assembler

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from deltaforge.envelopes.base import EncoderSpec
    from deltaforge.model import Item
    from tests.support.pgdraws import Stream

    Call = Callable[[Encoder], Encoded | None]

_OPERATIONS = {"I": "c", "U": "u", "D": "d"}


@dataclass
class Seen:
    """What one stream came to."""

    tags: Counter[str] = field(default_factory=Counter)
    """Of the messages that went through."""
    records: int = 0
    error: DeltaforgeError | None = None
    """What ended the stream before its end."""


class Pair:
    """The Python encoder and the compiled one under the same settings."""

    def __init__(self, spec: EncoderSpec, walk: Any) -> None:
        from deltaforge.envelopes.compiled import CompiledEncoder

        self._spec = spec
        self._walk = walk
        self._slow, self._fast = DebeziumEncoder(spec), CompiledEncoder(spec)

    def run(self, stream: Stream, r: Random) -> Seen:
        """Feed a stream from the start of a connection; `r` decides on chunks, cuts and skips.

        Raises AssertionError where the two differ or a rule is broken.
        """
        seen = Seen()
        self._slow.reset()
        self._fast.reset()
        try:
            self._feed(stream, r, seen)
        except DeltaforgeError as error:
            seen.error = error
        assert self._slow.omitted == self._fast.omitted
        return seen

    def _feed(self, stream: Stream, r: Random, seen: Seen) -> None:
        assembler, at = Assembler(), 0
        while at < len(stream.payloads):
            messages = stream.payloads[at : at + r.choice((1, 2, 5, 40, 1000))]
            self._check_walks(messages, r)
            found = survey_slowly(messages)
            relations = tuple(stream.catalog.relation(messages[index]) for index in found.relations)
            chunk = WalChunk(1, at, at + len(messages), messages, relations, sum(map(len, messages)))
            for item in assembler.feed(chunk).items:
                self._item(item, stream, r, seen)
            at += len(messages)

    def _check_walks(self, messages: list[bytes], r: Random) -> None:
        start, most = r.randint(0, len(messages)), r.choice((0, 3, 1000))
        assert self._walk.whole(messages, start, most) == runs.whole(messages, start, most)
        assert self._walk.plain_rows(messages, start) == runs.plain_rows(messages, start)
        found = self._walk.survey(messages)
        try:
            expected = survey_slowly(messages)
        except ProtocolViolation:
            assert found is None
        else:
            assert found is not None
            assert Survey(*found) == expected

    def _item(self, item: Item, stream: Stream, r: Random, seen: Seen) -> None:
        now, previous = r.choice((1, 1_795_417_206_060_302_614)), Lsn(r.choice((0, 77)))
        if isinstance(item, TransactionRun):
            for run in _pieces(item, r):
                self._both(lambda encoder, run=run: encoder.encode_run(run, previous, now), seen)  # type: ignore[misc]
                self._count(run.messages, stream, seen)
        elif isinstance(item, TransactionPart):
            skip = r.choice((0, 0, 0, 1, item.events))
            positions = r.random() < 0.2
            if skip >= item.events and not item.committed:
                self._both(lambda encoder: encoder.learn(item), seen)
            else:
                skip = min(skip, item.events)
                self._both(lambda encoder: encoder.encode(item, skip, previous, now, positions=positions), seen)
            self._count(item.messages, stream, seen, strict=skip == 0)
            seen.tags["B"] += item.first_index == 0
            seen.tags["C"] += item.committed
        elif isinstance(item, LogicalMessage):
            self._both(lambda encoder: encoder.encode_message(item, now), seen)
            seen.tags["M"] += 1

    def _both(self, call: Call, seen: Seen) -> None:
        expected, error = _outcome(call, self._slow)
        found, other = _outcome(call, self._fast)
        if error is not None or other is not None:
            assert _told(other) == _told(error)
            assert error is not None
            raise error
        assert found == expected, _difference(found, expected)
        if expected is not None:
            weight = sum(len(one or b"") for one in (*expected.keys, *expected.values))
            assert expected.nbytes == weight
            assert len(expected.topics) == len(expected.keys) == len(expected.values) == len(expected.headers)
            assert self._walk.partitions(expected.keys, 7, 3) == partitions_slowly(expected.keys, 7, unkeyed=repeat(3))
            seen.records += len(expected.values)

    def _count(self, messages: list[bytes], stream: Stream, seen: Seen, *, strict: bool = True) -> None:
        for message in messages:
            tag = chr(message[25])
            seen.tags[tag] += 1
            if strict and tag in _OPERATIONS and _OPERATIONS[tag] not in self._spec.skipped_operations:
                oid = int.from_bytes(message[26:30], "big")
                if oid not in stream.catalog.hidden:
                    try:
                        decode_xlog(message)
                    except ProtocolViolation as error:
                        raise AssertionError(f"a record was made of a change that cannot be decoded: {error}") from None


def _outcome(call: Call, encoder: Encoder) -> tuple[Encoded | None, DeltaforgeError | None]:
    try:
        return call(encoder), None
    except DeltaforgeError as error:
        return None, error
    except Exception as error:
        raise AssertionError(f"{encoder.name}: an error without a type of ours: {error!r}") from error


def _difference(found: Encoded | None, expected: Encoded | None) -> str:
    """The first thing that differs, what was expected last."""
    if found is None or expected is None:
        return f"{found} is not {expected}"
    for name in Encoded.__struct_fields__:
        ours, theirs = getattr(found, name), getattr(expected, name)
        if ours != theirs:
            pairs = zip(ours, theirs, strict=False) if isinstance(ours, list) else [(ours, theirs)]
            return next((f"{name}:\n{a}\n{b}" for a, b in pairs if a != b), f"{name}: another number of them")
    return ""


def _told(error: DeltaforgeError | None) -> object:
    return error and (type(error), str(error), error.hint)


def _pieces(run: TransactionRun, r: Random) -> list[TransactionRun]:
    """`run`, sometimes cut as a sink cuts it."""
    if r.random() < 0.7:
        return [run]
    head, rest = runs.cut(run, r.randint(0, run.events))
    return [piece for piece in (head, rest) if piece is not None]
