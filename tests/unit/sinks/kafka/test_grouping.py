"""When a Kafka transaction ends."""

from __future__ import annotations

import pytest

from deltaforge.sinks.kafka.grouping import End, Grouping, Limits

LIMITS = Limits(0.1, True, 1000, 50_000, 10.0)


def grouping(events: int = 1, nbytes: int = 100, *, limits: Limits = LIMITS) -> Grouping:
    """A Kafka transaction opened at second 100."""
    group = Grouping(limits)
    group.add(events, nbytes, nbytes, 100.0)
    return group


def test_nothing_open_never_ends() -> None:
    """Guards against empty Kafka transactions."""
    assert Grouping(LIMITS).end(at_commit=True, more_waits=False, now=1e9) is End.NO


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
    assert grouping().end(at_commit=at_commit, more_waits=more_waits, now=now) is end


def test_a_full_transaction_ends_at_the_next_commit() -> None:
    """Guards against Kafka transactions that grow with the backlog."""
    group = grouping(nbytes=32 * 1024 * 1024, limits=Limits(0.1, True, None, None, 10.0))
    assert group.end(at_commit=True, more_waits=True, now=100.0) is End.COMMIT
    assert group.end(at_commit=False, more_waits=True, now=100.0) is End.NO


@pytest.mark.fault("K9", "G12")
@pytest.mark.parametrize(("events", "nbytes"), [(1001, 1), (1, 50_001)])
def test_a_source_transaction_above_its_limits_is_split(events: int, nbytes: int) -> None:
    """Guards against one source transaction that outlives transaction.timeout.ms."""
    assert grouping(events, nbytes).end(at_commit=False, more_waits=True, now=100.0) is End.SPLIT


def test_a_source_transaction_at_its_limits_is_not_split() -> None:
    """Guards against a refusal of just what the operator allowed, only because its COMMIT came in the next chunk."""
    assert grouping(1000, 50_000).end(at_commit=False, more_waits=True, now=100.0) is End.NO


def test_what_was_committed_before_does_not_count_against_a_source_transaction() -> None:
    """Guards small transactions in a backlog: `on_large_tx: halt` would refuse one that is far below the limits."""
    group = grouping(990, 49_000)
    assert group.end(at_commit=True, more_waits=True, now=100.0) is End.NO
    group.next_source()
    group.add(20, 2000, 2000, 100.0)
    assert group.end(at_commit=False, more_waits=True, now=100.0) is End.NO
    group.add(981, 1, 1, 100.0)
    assert group.end(at_commit=False, more_waits=True, now=100.0) is End.SPLIT


def test_without_respect_for_source_transactions_any_event_may_end_it() -> None:
    """Guards against respect_source_tx: false being ignored."""
    group = grouping(limits=Limits(0.1, False, None, None, 10.0))
    assert group.end(at_commit=False, more_waits=False, now=100.0) is End.COMMIT


def test_clearing_makes_room_for_the_next() -> None:
    """Guards against counts carried over a commit."""
    group = grouping()
    group.clear()
    assert not group.open
    assert (group.events, group.nbytes) == (0, 0)
