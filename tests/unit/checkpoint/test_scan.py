"""Reading a compacted log backwards finds the newest record of each key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deltaforge.checkpoint.record import STATES, encode
from deltaforge.checkpoint.scan import FIRST_WINDOW, Found, Newest, windows
from deltaforge.model import Checkpoint, Progress, Stored


def record(state: str, seq: int) -> Checkpoint:
    return Checkpoint(state, "sys", 1, "db", "slot", "pub", "opt", "me", seq, Progress())


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_windows_cover_the_log_backwards_without_gap_or_overlap(low: int, length: int) -> None:
    """Guards the search: an offset in no window is a record never seen."""
    found = list(windows(low, low + length))
    assert [stop for _, stop in found] == [low + length, *(start for start, _ in found)][: len(found)]
    assert (found[-1][0] if found else low) == low if length else found == []
    assert all(start < stop for start, stop in found)


def test_windows_double_so_that_a_long_log_takes_few_of_them() -> None:
    """Guards the time to start after an hour of commits."""
    assert len(list(windows(0, 1_000_000))) <= 13
    assert next(windows(0, 1_000_000)) == (1_000_000 - FIRST_WINDOW, 1_000_000)


@given(st.lists(st.tuples(st.sampled_from([*STATES, *STATES, "gone"]), st.booleans()), max_size=900))
def test_the_newest_record_of_each_key_is_found(kinds: list[tuple[str, bool]]) -> None:
    """Guards against an older position; offsets without a record are what compaction and markers leave."""
    log = {
        offset: Found(offset, b"running", None) if state == "gone" else Found(offset, *encode(record(state, offset)))
        for offset, (state, there) in enumerate(kinds)
        if there
    }
    newest = Newest("topic")
    for start, stop in windows(0, len(kinds)):
        for offset in range(start, stop):
            if offset in log:
                newest.add(log[offset])
        if newest.close_window():
            break
    last: dict[bytes | None, Found] = {found.key: found for found in log.values()}
    running = last.get(b"running")
    expected = running.offset if running and running.value else None
    stored = newest.stored()
    assert (stored.running.seq if stored.running else None) == expected
    if running is None:
        assert (stored.born.seq if stored.born else None) == (last[b"born"].offset if b"born" in last else None)
        assert (stored.creating is not None) == (b"creating" in last)


def test_an_empty_log_holds_nothing() -> None:
    """Guards an emptied topic: it must look like one without records, so that the start refuses."""
    assert Newest("topic").stored() == Stored()
