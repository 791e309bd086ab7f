"""Finding the newest records of a compacted log by reading it backwards in growing windows. Pure.

Rule 1: a window is read forwards, from its start up to an offset; the first window ends at the log's end, each further
        one where the one before it began.
Rule 2: a window is twice as long as the one before. Together they cost at most twice what lies above the record wanted.
Rule 3: what an earlier window found is newer and wins over what a later one finds.
Rule 4: a `running` record ends the search: whatever the other keys hold, it wins over them. Without one the whole log
        is read, and it is short: only a first start that never committed anything looks like this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from deltaforge.checkpoint.record import decode
from deltaforge.model import Checkpoint, Stored

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_WINDOW = 256


class Found(msgspec.Struct, frozen=True):
    """One record of the log, not decoded yet."""

    offset: int
    key: bytes | None
    value: bytes | None


def windows(low: int, end: int) -> Iterator[tuple[int, int]]:
    """Windows (start, stop) backwards over the offsets low..end; none when there is nothing."""
    stop, length = end, FIRST_WINDOW
    while stop > low:
        start = max(low, stop - length)
        yield start, stop
        stop, length = start, length * 2


class Newest:
    """The newest record of each key over the windows read so far."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._older_windows: dict[bytes | None, Found] = {}
        self._window: dict[bytes | None, Found] = {}

    def add(self, found: Found) -> None:
        """The next record of the current window."""
        self._window[found.key] = found

    def close_window(self) -> bool:
        """The current window is read to its stop. Return whether the search is over."""
        self._older_windows = self._window | self._older_windows
        self._window = {}
        return b"running" in self._older_windows

    def stored(self) -> Stored:
        """Decode what was found. A tombstone counts as no record.

        Raises:
          Refused: a record is not ours, damaged or of a newer format.
        """
        newest: dict[str, Checkpoint] = {}
        for found in self._older_windows.values():
            if found.value is None:
                continue
            where = f'checkpoint topic "{self._topic}" offset {found.offset}'
            checkpoint = decode(found.key, found.value, where=where)
            newest[checkpoint.state] = checkpoint
        return Stored(newest.get("creating"), newest.get("born"), newest.get("running"))
