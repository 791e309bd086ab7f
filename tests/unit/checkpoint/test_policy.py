"""The commit policy: what enough sinks hold, never more."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaforge.checkpoint.policy import combine, enough, without_idle_gap
from deltaforge.errors import UsageError
from deltaforge.model import NOWHERE, Confirm, Lsn, Position, Receipt

EPOCH = 3


def receipt(lsn: int, epoch: int = EPOCH) -> Receipt:
    return Receipt(epoch, NOWHERE, Lsn(lsn), 0)


TABLE = [
    ("all", None, {"a": 10, "b": 20}, {"a": True, "b": True}, 10),
    ("all", None, {"a": 10, "b": None}, {"a": True, "b": False}, None),
    ("required", None, {"a": 10, "b": 20}, {"a": False, "b": True}, 20),
    ("required", None, {"a": None, "b": 20}, {"a": False, "b": True}, 20),
    ("required", None, {"a": None, "b": 20}, {"a": True, "b": True}, None),
    ("required", None, {"a": 10, "b": 20}, {"a": False, "b": False}, 10),
    ("quorum", 1, {"a": 10, "b": 20, "c": None}, {}, 20),
    ("quorum", 2, {"a": 10, "b": 20, "c": None}, {}, 10),
    ("quorum", 3, {"a": 10, "b": 20, "c": None}, {}, None),
    ("quorum", 4, {"a": 10, "b": 20, "c": 30}, {}, None),
    ("all", None, {}, {}, None),
    ("all", None, {"a": 0}, {}, None),
]


@pytest.mark.parametrize(("mode", "quorum", "flushed", "required", "confirmed"), TABLE)
def test_the_policy_confirms_what_its_sinks_hold(
    mode: str, quorum: int | None, flushed: dict[str, int | None], required: dict[str, bool], confirmed: int | None
) -> None:
    """Guards each mode of commit_policy in words a user would use."""
    receipts = {sink: None if lsn is None else receipt(lsn) for sink, lsn in flushed.items()}
    expected = None if confirmed is None else Confirm(EPOCH, Lsn(confirmed))
    assert combine(mode, quorum, receipts, required, EPOCH) == expected


@pytest.mark.parametrize(
    ("mode", "quorum", "sinks", "required", "content"),
    [
        ("all", None, "ab", "ab", True),
        ("all", None, "a", "a", False),
        ("required", None, "a", "a", True),
        ("required", None, "b", "a", False),
        ("required", None, "a", "", False),
        ("required", None, "ab", "", True),
        ("quorum", 1, "b", "a", True),
        ("quorum", 2, "b", "ab", False),
        ("quorum", 2, "ab", "", True),
    ],
)
def test_the_policy_is_content_with_the_sinks_it_waits_for(
    mode: str, quorum: int | None, sinks: str, required: str, content: bool
) -> None:
    """Guards against a start that is refused for a sink that nobody waits for, and one that goes on without any."""
    assert enough(mode, quorum, {sink: sink in required for sink in "ab"}, sinks) is content


def test_a_receipt_of_another_epoch_counts_as_silence() -> None:
    """Guards R2: what was durable on an older stream says nothing about this one."""
    assert combine("all", None, {"a": receipt(10, EPOCH - 1)}, {"a": True}, EPOCH) is None


def test_an_unknown_policy_is_a_bug_of_ours() -> None:
    """Guards the configuration check upstream."""
    for mode, quorum in (("some", None), ("quorum", None), ("quorum", 0)):
        with pytest.raises(UsageError):
            combine(mode, quorum, {"a": receipt(1)}, {"a": True}, EPOCH)


receipts_of = st.none() | st.builds(receipt, st.integers(0, 20), st.sampled_from([EPOCH, EPOCH, EPOCH, EPOCH - 1]))
setups = st.tuples(
    st.sampled_from(["all", "required", "quorum"]),
    st.integers(1, 4),
    st.dictionaries(st.sampled_from("abcd"), st.tuples(receipts_of, st.booleans()), min_size=1),
)
Setup = tuple[str, int, dict[str, tuple[Receipt | None, bool]]]


def confirmed(setup: Setup, receipts: dict[str, Receipt | None]) -> int:
    mode, quorum, sinks = setup
    found = combine(mode, quorum, receipts, {sink: marked for sink, (_, marked) in sinks.items()}, EPOCH)
    return found.lsn if found else 0


@given(setups)
def test_enough_sinks_hold_whatever_is_confirmed(setup: Setup) -> None:
    """Guards against losing WAL that a needed sink does not have yet."""
    mode, quorum, sinks = setup
    lsn = confirmed(setup, {sink: found for sink, (found, _) in sinks.items()})
    holds = {s for s, (r, _) in sinks.items() if r is not None and r.epoch == EPOCH and r.flush_lsn >= lsn > 0}
    marked = {sink for sink, (_, flag) in sinks.items() if flag} or set(sinks)
    enough = {"all": holds == set(sinks), "required": marked <= holds, "quorum": len(holds) >= quorum}[mode]
    assert lsn == 0 or enough


@given(setups, st.data())
def test_a_sink_that_goes_on_never_lowers_what_is_confirmed(setup: Setup, data: st.DataObject) -> None:
    """Guards monotony: PostgreSQL ignores a falling confirmation, and everybody would wonder."""
    before = {sink: found for sink, (found, _) in setup[2].items()}
    moved = data.draw(st.sampled_from(sorted(before)))
    old = before[moved]
    if old is None or old.epoch != EPOCH:
        new = receipt(data.draw(st.integers(0, 20)))
    else:
        new = msgspec.structs.replace(old, flush_lsn=Lsn(old.flush_lsn + data.draw(st.integers(0, 5))))
    assert confirmed(setup, before | {moved: new}) >= confirmed(setup, before)


def at(event: int, flush: int, epoch: int = EPOCH) -> Receipt:
    """A sink whose newest durable event ends at `event`."""
    return Receipt(epoch, Position(Lsn(event - 1), 0), Lsn(flush), 0, Lsn(event))


@pytest.mark.parametrize(
    ("receipts", "expected"),
    [
        ({"file": at(10, 40), "kafka": at(10, 20)}, 20),
        ({"file": at(10, 40), "kafka": at(9, 9)}, 10),
        ({"file": at(10, 40), "kafka": at(10, 20, EPOCH - 1)}, 10),
        ({"file": at(10, 40), "kafka": at(10, 0)}, 10),
        ({"file": at(10, 40), "kafka": None}, 10),
        ({"file": at(10, 40), "kafka": at(12, 44)}, 40),
        ({"file": at(10, 10), "kafka": at(9, 9)}, 10),
        ({"file": at(10, 40 + 2**24), "kafka": at(10, 39)}, 40 + 2**24),
    ],
)
def test_wal_without_events_waits_for_the_slowest_sink(receipts: dict[str, Receipt | None], expected: int) -> None:
    """Guards the next start of a sink nobody waits for against a gap in which nothing was changed.

    One that lacks the newest event may have it a moment later: then, too, no more must be forgotten than that event.
    """
    file = receipts["file"]
    assert file is not None
    assert without_idle_gap(Confirm(EPOCH, file.flush_lsn), receipts).lsn == expected
