"""The batch policy: batches put end to end are the stream, and none is larger than asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deltaforge.batcher.policy import BatchPolicy
from deltaforge.model import Batch, Segment, TransactionPart, TransactionRun, Watermark
from deltaforge.runs import parts
from deltaforge.transactions.assembler import Assembler, split
from tests.support.streams import Planned, chunked, messages, plans, sizes


def batches(segments: list[Segment], max_events: int, max_bytes: int) -> list[Batch]:
    """All batches of a stream."""
    policy = BatchPolicy(max_events, max_bytes, split)
    policy.reset(1)
    out: list[Batch] = []
    for segment in segments:
        assert policy.follows(segment)
        out += policy.add(segment)
    if policy.open:
        out.append(policy.close())
    return out


def segments_of(plan: list[Planned], cut: list[int]) -> list[Segment]:
    """What the assembler makes of a stream."""
    assembler = Assembler()
    return [assembler.feed(chunk) for chunk in chunked(messages(plan), cut)]


def flattened(items: list[object]) -> list[object]:
    """Every message once, every end once, every watermark: what has to survive batching."""
    out: list[object] = []
    for whole in items:
        for item in parts(whole) if isinstance(whole, TransactionRun) else [whole]:
            if not isinstance(item, TransactionPart):
                out.append(item)
                continue
            out += item.messages
            if item.committed:
                out.append(item.end_lsn)
    return out


@given(plans(), sizes, st.integers(1, 6), st.integers(1, 2000))
def test_batches_put_end_to_end_are_the_stream(plan: list[Planned], cut: list[int], events: int, nbytes: int) -> None:
    """Guards against rows lost or moved at a batch boundary."""
    segments = segments_of(plan, cut)
    made = batches(segments, events, nbytes)
    assert flattened([i for b in made for i in b.items]) == flattened([i for s in segments for i in s.items])


@given(plans(), sizes, st.integers(1, 6), st.integers(1, 2000))
def test_bounds_hold_and_numbers_have_no_gap(plan: list[Planned], cut: list[int], events: int, nbytes: int) -> None:
    """Guards against a batch above max_events, or above max_bytes by more than its last item."""
    made = batches(segments_of(plan, cut), events, nbytes)
    for number, batch in enumerate(made):
        assert (batch.prev, batch.end) == (number, number + 1)
        assert batch.events <= events
        weights = [0 if isinstance(i, Watermark) else i.nbytes for i in batch.items]
        assert sum(weights[:-1]) < nbytes


@given(plans(), sizes, st.integers(1, 6))
def test_no_byte_of_the_budget_is_lost(plan: list[Planned], cut: list[int], events: int) -> None:
    """Guards against a byte budget that shrinks with every chunk until nothing moves."""
    segments = segments_of(plan, cut)
    policy = BatchPolicy(events, 10**9, split)
    policy.reset(1)
    made = [b for s in segments for b in policy.add(s)]
    made.append(policy.close())
    assert sum(b.nbytes for b in made) == sum(s.nbytes for s in segments)


def test_a_segment_out_of_order_is_noticed() -> None:
    """Guards against going on after a stage lost what it had in hand."""
    segments = segments_of([Planned("tx", 4, 1000, 1020)], [2])
    policy = BatchPolicy(100, 10**9, split)
    policy.reset(1)
    list(policy.add(segments[0]))
    assert not policy.follows(segments[2])
