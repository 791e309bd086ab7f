"""When a Kafka transaction ends."""

from __future__ import annotations

import pytest

from deltaforge.sinks.kafka.grouping import End, Grouping, Limits, Room

LEAST = 64 * 1024
LIMITS = Limits(0.1, True, 1000, 50_000, 10.0)


def grouping(events: int = 1, nbytes: int = 100, *, limits: Limits = LIMITS) -> Grouping:
    """A Kafka transaction opened at second 100."""
    group = Grouping(limits)
    group.add(events, nbytes, nbytes, 100.0)
    return group


def test_nothing_open_never_ends() -> None:
    """Guards against empty Kafka transactions."""
    assert Grouping(LIMITS).end(at_commit=True, more_waits=False, now=1e9, lsn=1) is End.NO


@pytest.mark.parametrize(
    ("at_commit", "more_waits", "now", "end"),
    [
        (True, False, 100.0, End.COMMIT),
        (True, True, 100.0, End.NO),
        (True, True, 100.5, End.COMMIT),
        (False, False, 100.2, End.NO),
        (False, True, 110.0, End.SPLIT),
    ],
)
def test_it_ends_at_a_commit_when_idle_or_old_and_splits_only_when_too_old(
    at_commit: bool, more_waits: bool, now: float, end: End
) -> None:
    """Guards against torn source transactions and against latency without a backlog."""
    assert grouping().end(at_commit=at_commit, more_waits=more_waits, now=now, lsn=1) is end


def test_a_full_transaction_ends_at_the_next_commit() -> None:
    """Guards against Kafka transactions that grow with the backlog."""
    group = grouping(nbytes=32 * 1024 * 1024, limits=Limits(0.1, True, None, None, 10.0))
    assert group.end(at_commit=True, more_waits=True, now=100.0, lsn=1) is End.COMMIT
    assert group.end(at_commit=False, more_waits=True, now=100.0, lsn=1) is End.NO


@pytest.mark.fault("K9", "G12")
@pytest.mark.parametrize(("events", "nbytes"), [(1001, 1), (1, 50_001)])
def test_a_source_transaction_above_its_limits_is_split(events: int, nbytes: int) -> None:
    """Guards against one source transaction that outlives transaction.timeout.ms."""
    assert grouping(events, nbytes).end(at_commit=False, more_waits=True, now=100.0, lsn=1) is End.SPLIT


def test_a_source_transaction_at_its_limits_is_not_split() -> None:
    """Guards against a refusal of just what the operator allowed, only because its COMMIT came in the next chunk."""
    assert grouping(1000, 50_000).end(at_commit=False, more_waits=True, now=100.0, lsn=1) is End.NO


def test_what_was_committed_before_does_not_count_against_a_source_transaction() -> None:
    """Guards small transactions in a backlog: `on_large_tx: halt` would refuse one that is far below the limits."""
    group = grouping(990, 49_000)
    assert group.end(at_commit=True, more_waits=True, now=100.0, lsn=1) is End.NO
    group.next_source()
    group.add(20, 2000, 2000, 100.0)
    assert group.end(at_commit=False, more_waits=True, now=100.0, lsn=1) is End.NO
    group.add(981, 1, 1, 100.0)
    assert group.end(at_commit=False, more_waits=True, now=100.0, lsn=1) is End.SPLIT


def test_without_respect_for_source_transactions_any_event_may_end_it() -> None:
    """Guards against respect_source_tx: false being ignored."""
    group = grouping(limits=Limits(0.1, False, None, None, 10.0))
    assert group.end(at_commit=False, more_waits=False, now=100.0, lsn=1) is End.COMMIT


def test_clearing_makes_room_for_the_next() -> None:
    """Guards against counts carried over a commit."""
    group = grouping()
    group.clear()
    assert not group.open
    assert (group.events, group.nbytes) == (0, 0)


def test_what_was_given_up_for_being_slow_is_made_smaller_and_what_is_quick_larger_again() -> None:
    """Guards against a transaction begun anew as large as it was for ever, and against one bad hour that stays."""
    room = Room()
    room.missed(8_000_000, 1)
    assert room.nbytes == 2_000_000
    room.missed(1_600_000, 2)
    assert room.nbytes == 400_000
    room.missed(70_000, 3)
    assert room.nbytes == LEAST
    room.taken(LEAST, 16.0, 60.0)
    room.taken(LEAST // 2 - 1, 1.0, 60.0)
    assert room.nbytes == LEAST, "one was slow and the other small"
    for _ in range(9):
        room.taken(room.nbytes // 2, 15.0, 60.0)
    assert room.nbytes == Room().nbytes


def test_what_says_nothing_about_the_line_changes_nothing() -> None:
    """Guards a light stream through an outage, and a room that fits, against what could not be split."""
    room = Room()
    room.missed(500, 1)
    room.missed(0, 2)
    assert room.nbytes == Room().nbytes
    room.missed(4_000_000, 3)
    room.missed(40_000_000, 4)
    assert room.nbytes == 1_000_000


@pytest.mark.parametrize(
    ("late", "may_split", "end"),
    [([7], True, End.NO), ([7, 8], True, End.NO), ([8, 7, 7], True, End.SPLIT), ([7, 7], False, End.NO)],
)
def test_a_source_transaction_is_split_for_a_slow_line_when_it_was_too_slow_twice(
    late: list[int], may_split: bool, end: End
) -> None:
    """Guards against source transactions torn after outages, for the sake of those before them, or against a halt."""
    room = Room()
    for lsn in late:
        room.missed(LEAST + 1, lsn)
    group = Grouping(Limits(0.1, True, None, None, 10.0, may_split), room)
    group.add(1, LEAST, 1, 100.0)
    assert group.end(at_commit=True, more_waits=True, now=100.0, lsn=7) is End.COMMIT
    assert group.end(at_commit=False, more_waits=True, now=100.0, lsn=7) is End.NO
    group.add(1, 1, 1, 100.0)
    assert group.end(at_commit=False, more_waits=True, now=100.0, lsn=7) is end
    group.next_source()
    assert group.end(at_commit=False, more_waits=True, now=100.0, lsn=7) is End.NO
