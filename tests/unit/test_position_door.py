"""The door: what passes, what is skipped, what is refused, what may be confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.errors import Refused
from deltaforge.model import (
    NOWHERE,
    Anchor,
    Item,
    Lease,
    LogicalMessage,
    Lsn,
    Position,
    Progress,
    TransactionPart,
    Watermark,
)
from deltaforge.position import Door, anchor_of, item_flush, item_position

if TYPE_CHECKING:
    from collections.abc import Iterable


def lease(confirmed: int = 1) -> Lease:
    return Lease(1, 99, "sys", 1, (), "db", "slot", Lsn(confirmed))


def part(xid: int, commit: int, first: int, events: int, end: int = 0, *, time: int = 7) -> TransactionPart:
    return TransactionPart(xid, Lsn(commit), time, first, events, [], (), Lsn(end), Lsn(0), 1)


def message(lsn: int, content: bytes = b"content", lead: bytes = b"w" + bytes(24)) -> LogicalMessage:
    return LogicalMessage(Lsn(lsn), lead + b"M" + bytes(9) + b"prefix\0" + content, Lsn(0), 1)


def mark(lsn: int) -> Watermark:
    return Watermark(Lsn(lsn))


def standing_on(item: TransactionPart | LogicalMessage, flush: int) -> Progress:
    return Progress(item.last, anchor_of(item), Lsn(flush), Lsn(flush))


def take_all(door: Door, items: Iterable[Item]) -> list[tuple[int, int]]:
    return [(passed.skip, passed.events) for passed in map(door.take, items)]


def test_everything_passes_a_door_that_begins_nowhere() -> None:
    """Guards a first start: `born` has no position, so nothing is skipped."""
    door = Door(lease(), Progress(flush_lsn=Lsn(5)))
    assert take_all(door, [part(1, 10, 0, 2, 12), message(15), mark(16)]) == [(0, 2), (0, 1), (0, 0)]
    assert door.accepted == Progress(Position(Lsn(15), -1), anchor_of(message(15)), Lsn(12), Lsn(16))


@pytest.mark.parametrize(
    ("index", "passed"),
    [(-1, [(0, 2), (0, 3)]), (0, [(1, 1), (0, 3)]), (1, [(2, 0), (0, 3)]), (3, [(2, 0), (2, 1)])],
)
def test_a_half_delivered_transaction_goes_on_after_its_last_durable_event(
    index: int, passed: list[tuple[int, int]]
) -> None:
    """Guards split transactions: `<` for `<=` repeats an event, the other way round loses one."""
    durable = Progress(Position(Lsn(20), index), Anchor(Lsn(20), 2, 7), Lsn(12), Lsn(12))
    assert take_all(Door(lease(), durable), [part(2, 20, 0, 2), part(2, 20, 2, 3, 22)]) == passed


def test_the_commit_has_an_index_of_its_own() -> None:
    """Guards the difference between `all events durable` and `transaction over`: only the second may be confirmed."""
    door = Door(lease(), Progress())
    door.take(part(2, 20, 0, 2))
    assert (door.accepted.position, door.accepted.flush_lsn) == (Position(Lsn(20), 1), 0)
    door.take(part(2, 20, 2, 0, 22))
    assert (door.accepted.position, door.accepted.flush_lsn) == (Position(Lsn(20), 2), 22)


def test_a_message_at_the_commit_lsn_of_the_next_transaction_does_not_swallow_its_first_row() -> None:
    """Guards the index -1: PostgreSQL gives both the same LSN."""
    door = Door(lease(), standing_on(message(20), 20))
    assert take_all(door, [message(20), part(2, 20, 0, 2, 22)]) == [(0, 0), (0, 2)]


def test_a_message_ends_no_transaction() -> None:
    """Guards Debezium's `sequence`: its first element names commits only, with or without a restart."""
    door = Door(lease(), Progress())
    take_all(door, [part(1, 10, 0, 1, 12), message(15)])
    assert door.accepted.last_commit_end_lsn == 12


def test_a_watermark_raises_only_what_may_be_confirmed() -> None:
    """Guards the anchor: an idle checkpoint keeps the position and how to recognise it."""
    durable = standing_on(part(1, 10, 0, 1, 12), 12)
    door = Door(lease(20), durable)
    door.take(mark(30))
    assert door.accepted == msgspec.structs.replace(durable, flush_lsn=Lsn(30))
    door.take(mark(25))
    assert door.accepted.flush_lsn == 30


def test_the_end_of_events_leaves_out_wal_that_holds_none() -> None:
    """Guards other sinks: what is confirmed above it can be a gap to them although they lack no event."""
    door = Door(lease(7), Progress(flush_lsn=Lsn(9)))
    ends = [door.event_end]
    for item in (mark(9), part(1, 10, 0, 1, 12), mark(15), message(20), mark(30), part(4, 40, 0, 2)):
        door.take(item)
        door.committed(door.accepted)
        ends.append(door.event_end)
    assert ends == [7, 7, 12, 12, 20, 20, 12]


# ---- the anchor

FOREIGN: list[tuple[str, Item]] = [
    ("another xid", part(9, 10, 0, 1, 12)),
    ("another commit time", part(1, 10, 0, 1, 12, time=8)),
    ("another commit LSN", part(1, 11, 0, 1, 12)),
]


@pytest.mark.parametrize("above", [part(2, 20, 0, 1, 22), message(15), mark(13)], ids=["row", "message", "mark"])
@pytest.mark.parametrize("shown", [None, *(item for _, item in FOREIGN)], ids=["nothing", *(n for n, _ in FOREIGN)])
def test_a_stream_without_the_anchor_is_refused_before_anything_new_passes(shown: Item | None, above: Item) -> None:
    """Guards restored copies: their LSNs look right, and comparing LSNs alone would drop new rows as known."""
    door = Door(lease(10), standing_on(part(1, 10, 0, 1, 12), 12))
    with pytest.raises(Refused, match="history differs"):
        take_all(door, ([shown] if shown else []) + [above])


def test_a_watermark_at_the_anchor_itself_passes() -> None:
    """Guards against a false alarm: the keepalive may come before the transaction that commits at its LSN."""
    door = Door(lease(10), standing_on(part(1, 10, 0, 1, 12), 12))
    assert take_all(door, [mark(10), part(1, 10, 0, 1, 12), mark(14)]) == [(0, 0), (1, 0), (0, 0)]


def test_no_anchor_is_asked_for_when_the_slot_stands_above_it() -> None:
    """Guards a normal restart: PostgreSQL does not send again what was confirmed."""
    door = Door(lease(12), standing_on(part(1, 10, 0, 1, 12), 12))
    assert take_all(door, [part(2, 20, 0, 1, 22)]) == [(0, 1)]


@pytest.mark.parametrize(("confirmed", "asked"), [(14, True), (15, False), (16, False)])
def test_a_message_is_asked_for_only_below_its_lsn(confirmed: int, asked: bool) -> None:
    """Guards the one difference to transactions: at equality PostgreSQL does not send a message again."""
    door = Door(lease(confirmed), standing_on(message(15), 15))
    if asked:
        with pytest.raises(Refused):
            door.take(part(2, 20, 0, 1, 22))
    else:
        assert take_all(door, [part(2, 20, 0, 1, 22)]) == [(0, 1)]


def test_a_message_is_recognised_by_prefix_and_content_not_by_the_stream_header() -> None:
    """Guards reconnects: the header holds the server's clock, which differs each time."""
    first, again = message(15), message(15, lead=b"w" + b"\xff" * 24)
    assert anchor_of(first) == anchor_of(again)
    assert anchor_of(first) != anchor_of(message(15, content=b"other"))


@pytest.mark.parametrize(
    ("item", "refused"),
    [(part(2, 19, 0, 1, 21), True), (part(2, 20, 0, 1, 22), False), (message(20), True), (message(21), False)],
)
def test_nothing_new_may_appear_below_what_was_declared_finished(item: Item, refused: bool) -> None:
    """Guards idle checkpoints: a foreign history can slip rows into a range without transactions of ours."""
    door = Door(lease(12), Progress(Position(Lsn(10), 1), Anchor(Lsn(10), 1, 7), Lsn(12), Lsn(20)))
    if refused:
        with pytest.raises(Refused, match="below the confirmed position"):
            door.take(item)
    else:
        assert take_all(door, [item]) == [(0, 1)]


# ---- the chain and the feedback


def test_a_gap_in_the_chain_does_not_follow() -> None:
    """Guards lost items: what a crashed stage had in hand must be noticed."""
    door = Door(lease(), Progress())
    assert [door.follows(0, 3), door.follows(4, 5), door.follows(3, 3), door.follows(3, 6), door.follows(3, 6)] == [
        *(True, False, True, True, False)
    ]


def test_nothing_is_confirmed_before_this_stream_has_reached_it() -> None:
    """Guards against confirming on a foreign history what was durable on another."""
    durable = standing_on(part(1, 10, 0, 1, 12), 30)
    door = Door(lease(10), durable)
    assert door.confirmable == 0
    door.take(part(1, 10, 0, 1, 12))
    assert door.confirmable == 0
    door.take(mark(30))
    assert door.confirmable == 30


def test_only_what_is_durable_is_confirmed() -> None:
    """Guards against confirming what the sink merely holds."""
    door = Door(lease(), Progress(flush_lsn=Lsn(5)))
    take_all(door, [part(1, 10, 0, 1, 12), part(2, 20, 0, 1, 22)])
    first = door.accepted
    assert door.confirmable == 5
    door.committed(first)
    assert door.confirmable == 22


# ---- against an oracle


@st.composite
def histories(draw: st.DrawFn) -> list[Item]:
    """A stream in order: transactions in parts, messages, watermarks."""
    items: list[Item] = []
    lsn = 10
    for xid in range(1, draw(st.integers(1, 6)) + 1):
        lsn += draw(st.integers(2, 5))
        kind = draw(st.sampled_from(["transaction", "transaction", "message", "mark"]))
        if kind == "message":
            items.append(message(lsn, bytes([xid])))
        elif kind == "mark":
            items.append(mark(lsn))
        else:
            sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
            at = 0
            for number, size in enumerate(sizes):
                items.append(part(xid, lsn, at, size, lsn + 1 if number == len(sizes) - 1 else 0))
                at += size
            lsn += 1
    return items


def events_of(item: Item) -> list[Position]:
    if isinstance(item, TransactionPart):
        return [Position(item.commit_lsn, item.first_index + n) for n in range(item.events)]
    return [item.last] if isinstance(item, LogicalMessage) else []


@given(histories(), st.data())
def test_a_restart_at_any_point_brings_every_event_exactly_once(items: list[Item], data: st.DataObject) -> None:
    """Guards skip, anchor and feedback together, against a plain list of what had to arrive."""
    stop = data.draw(st.integers(0, len(items)))
    first = Door(lease(1), Progress())
    delivered: list[Position] = []
    for item in items[:stop]:
        skip = first.take(item).skip
        delivered += events_of(item)[skip:]
    durable = first.accepted
    reachable = [0, *(item_flush(item) for item in items[:stop] if 0 < item_flush(item) <= durable.flush_lsn)]
    confirmed = data.draw(st.sampled_from(reachable))
    second = Door(lease(confirmed), durable)
    for item in items:
        if isinstance(item, TransactionPart):
            sent = item.commit_lsn >= confirmed
        else:
            sent = item_position(item).commit_lsn > confirmed
        if sent:
            passed = second.take(item)
            fresh = events_of(item)
            delivered += fresh[len(fresh) - passed.events :]
    assert delivered == [event for item in items for event in events_of(item)]
    second.committed(second.accepted)
    sent_to_end = [item_flush(item) or item_position(item).commit_lsn for item in items]
    assert second.confirmable in (0, second.accepted.flush_lsn)
    assert second.accepted.flush_lsn == max([0, *map(item_flush, items)])
    assert second.accepted.position == max(
        [NOWHERE, *(item_position(item) for item in items if not isinstance(item, Watermark))]
    )
    assert not sent_to_end or second.confirmable <= max(sent_to_end)
