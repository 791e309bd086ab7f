"""The assembler: whatever the chunks, the parts are the stream's transactions, in order, each event once."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.errors import ProtocolViolation
from deltaforge.model import Item, LogicalMessage, Lsn, TransactionPart, TransactionRun, WalChunk, Watermark
from deltaforge.position import anchor_of, item_flush, item_position
from deltaforge.runs import cut as cut_run
from deltaforge.runs import first_part, parts
from deltaforge.transactions.assembler import POSTGRES_EPOCH_US, Assembler, split
from tests.support import pgoutput_bytes as wire
from tests.support.streams import EVENTS, TABLE, Planned, chunked, messages, plans, sizes


def assemble(chunks: list[WalChunk]) -> list[TransactionPart | LogicalMessage | Watermark]:
    """All items of a stream, runs taken apart."""
    out: list[TransactionPart | LogicalMessage | Watermark] = []
    for item in assembled(chunks):
        out += parts(item) if isinstance(item, TransactionRun) else [item]
    return out


def assembled(chunks: list[WalChunk]) -> list[Item]:
    """All items of a stream."""
    assembler = Assembler()
    out: list[Item] = []
    for chunk in chunks:
        assert assembler.follows(chunk)
        segment = assembler.feed(chunk)
        assert (segment.epoch, segment.prev, segment.end) == (chunk.epoch, chunk.prev, chunk.end)
        out += segment.items
    return out


@given(plans(), sizes)
def test_parts_are_the_committed_transactions_in_order_each_event_once(plan: list[Planned], cut: list[int]) -> None:
    """Guards against rows lost, doubled or renumbered where a chunk ends in mid-transaction."""
    found = [item for item in assemble(chunked(messages(plan), cut)) if isinstance(item, TransactionPart)]
    seen: dict[int, list[int]] = {}
    for part in found:
        indexes = seen.setdefault(part.commit_lsn, [])
        indexes += range(part.first_index, part.first_index + part.events)
        assert sum(m[25] in EVENTS for m in part.messages) == part.events
    assert seen == {step.lsn: list(range(step.events)) for step in plan if step.kind == "tx"}
    ends = [part.end_lsn for part in found if part.committed]
    assert ends == [step.end for step in plan if step.kind == "tx"]


@given(plans(), sizes)
def test_positions_never_fall(plan: list[Planned], cut: list[int]) -> None:
    """Guards against an order that a sink's door would take for another history."""
    positions = [item_position(item) for item in assemble(chunked(messages(plan), cut))]
    assert positions == sorted(positions)


@given(plans(), sizes)
def test_no_segment_weighs_less_than_its_items(plan: list[Planned], cut: list[int]) -> None:
    """Guards against bytes given back before their item is there: a BEGIN at the end of a chunk belongs to a row."""
    chunks = chunked(messages(plan), cut)
    assembler = Assembler()
    segments = [assembler.feed(chunk) for chunk in chunks]
    for segment in segments:
        assert segment.nbytes >= sum(item.nbytes for item in segment.items if not isinstance(item, Watermark))
    assert sum(segment.nbytes for segment in segments) == sum(chunk.nbytes for chunk in chunks)


@given(plans(), sizes, st.data())
def test_a_reset_forgets_the_open_transaction(plan: list[Planned], cut: list[int], data: st.DataObject) -> None:
    """Guards against rows of a dead stream glued to those of the next one."""
    chunks = chunked(messages(plan), cut)
    assembler = Assembler()
    for chunk in chunks[: data.draw(st.integers(0, len(chunks)))]:
        assembler.feed(chunk)
    assembler.reset()
    assert [i for c in chunks for i in assembler.feed(c).items] == assembled(chunks)


@given(plans(), sizes, st.data())
def test_splitting_a_part_keeps_every_message_and_relation(
    plan: list[Planned], cut: list[int], data: st.DataObject
) -> None:
    """Guards against a batch boundary that swallows a Relation or shifts an index."""
    for part in assemble(chunked(messages(plan), cut)):
        if not isinstance(part, TransactionPart) or part.events < 2:
            continue
        at = data.draw(st.integers(1, part.events - 1))
        head, tail = split(part, at)
        assert head.messages + tail.messages == part.messages
        assert head.relations + tail.relations == part.relations
        assert (head.first_index, head.events) == (part.first_index, at)
        assert (tail.first_index, tail.events) == (part.first_index + at, part.events - at)
        assert (head.end_lsn, tail.end_lsn) == (0, part.end_lsn)
        assert head.nbytes + tail.nbytes == part.nbytes


@given(plans(), sizes)
def test_a_run_says_of_its_transactions_what_they_say_themselves(plan: list[Planned], cut: list[int]) -> None:
    """Guards against a checkpoint, a confirmation or a budget that depends on how chunks were cut."""
    for run in assembled(chunked(messages(plan), cut)):
        if not isinstance(run, TransactionRun):
            continue
        own = parts(run)
        assert run.transactions == len(own) > 1
        assert (run.events, run.nbytes) == (sum(p.events for p in own), sum(p.nbytes for p in own))
        assert run.relations == tuple(r for p in own for r in p.relations)
        assert (run.first_commit_lsn, run.previous_end) == (own[0].commit_lsn, own[0].previous_end)
        assert item_position(run) == item_position(own[-1])
        assert item_flush(run) == item_flush(own[-1])
        assert anchor_of(run) == anchor_of(own[-1])


@given(plans(), sizes, st.integers(0, 6))
def test_cutting_a_run_loses_nothing(plan: list[Planned], cut: list[int], room: int) -> None:
    """Guards against a transaction lost, doubled or put before another where a batch is full."""
    for run in assembled(chunked(messages(plan), cut)):
        if not isinstance(run, TransactionRun):
            continue
        front, rest = cut_run(run, room)
        assert front is None or front.events <= room
        assert taken_apart(front) + taken_apart(rest) == parts(run)
        head, rest = first_part(run)
        assert [head, *taken_apart(rest)] == parts(run)


def taken_apart(item: TransactionRun | None) -> list[TransactionPart]:
    """The transactions of a run, if there is one."""
    return [] if item is None else parts(item)


def test_keepalives_inside_a_transaction_are_not_watermarks() -> None:
    """Guards against confirming WAL while a transaction is half received."""
    stream = [wire.begin(1000), wire.relation(TABLE), wire.insert(TABLE.oid, ["1"]), wire.keepalive(990)]
    stream += [wire.commit(1000, 1020), wire.keepalive(1020), wire.keepalive(1050)]
    items = assemble(chunked(stream, []))
    assert [type(item) for item in items] == [TransactionPart, Watermark]
    assert items[1] == Watermark(Lsn(1050))


def test_a_part_carries_what_only_begin_and_the_previous_commit_knew() -> None:
    """Guards against source blocks with another transaction's time or id."""
    stream = messages([Planned("tx", 1, 1000, 1020), Planned("tx", 1, 2000, 2020)])
    first, second = assemble(chunked(stream, []))
    assert isinstance(first, TransactionPart)
    assert isinstance(second, TransactionPart)
    assert (first.xid, first.previous_end, first.commit_time_us) == (700, 0, POSTGRES_EPOCH_US)
    assert (second.xid, second.previous_end) == (701, 1020)


def _changed(message: bytes, at: int) -> bytes:
    """`message` with one bit of one byte changed."""
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


@pytest.mark.fault("D5", "N7")
@pytest.mark.parametrize(
    ("stream", "why"),
    [
        ([wire.insert(TABLE.oid, ["1"])], "outside a transaction"),
        ([wire.commit(1, 2)], "outside a transaction"),
        ([wire.begin(1), wire.begin(2)], "BEGIN inside"),
        ([wire.begin(1), wire.commit(7, 8)], "announced for"),
        ([wire.begin(1), wire.commit(1, 2, 946_684_800_000_001)], "another time"),
        ([wire.begin(1), _changed(wire.commit(1, 2), 3)], "ends at 0/2, but came in a frame that says"),
        ([wire.begin(1), _changed(wire.commit(1, 2), 11)], "ends at 0/2, but came in a frame that says"),
        ([wire.begin(1), _changed(wire.commit(1, 2), 37)], "but came in a frame that says 0/2 and 0/2"),
        ([_changed(wire.message("p", b"", 5, transactional=False), 29)], "came in a frame that says 0/5"),
        ([wire.begin(1), wire.xlog(b"?")], "unknown pgoutput message"),
        ([wire.begin(1), wire.message("p", b"", 5, transactional=False)], "non-transactional"),
        ([b"x123"], "unknown replication message"),
        ([wire.begin(1)[:30]], "cut short"),
        ([wire.begin(1), wire.relation(TABLE)], "cut short"),
    ],
)
@pytest.mark.parametrize("more", [0, 1, 2])
def test_what_the_protocol_forbids_is_refused(stream: list[bytes], why: str, more: int) -> None:
    """Guards against guessing at a stream that cannot be trusted, also behind a run of sound transactions."""
    stream = [wire.begin(1), wire.commit(1, 1)] * more + stream
    chunk = WalChunk(1, 0, len(stream), stream, (), 0)
    with pytest.raises(ProtocolViolation, match=why):
        Assembler().feed(chunk)


@pytest.mark.fault("D5", "N7")
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_arbitrary_bytes_raise_nothing_but_a_protocol_violation(stream: list[bytes]) -> None:
    """Guards against a crash loop on a broken connection."""
    with contextlib.suppress(ProtocolViolation):
        Assembler().feed(WalChunk(1, 0, len(stream), stream, (), 0))
