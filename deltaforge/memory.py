"""Memory that a busy time has left behind goes back to the system.

librdkafka and Python free what a backlog needed, but the C library keeps it: between what it freed lie pieces that are
still in use. On request glibc gives back the free pages between them; after a backlog that was 22 of 29 MiB.

Rule 1: it costs some milliseconds, and those pages have to be had again: only when little arrives, at most once a
        minute, and only after something that used much; once nothing arrives any more, after less.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NOTHING, _LITTLE = 1024, 1024 * 1024
"""Bytes a second."""
_SOME, _MUCH = 1024 * 1024, 16 * 1024 * 1024
_GAP_S = 60.0


class Tidying:
    """When to give memory back. Pure; times are monotonic seconds."""

    def __init__(self) -> None:
        self._at = float("-inf")
        self._nbytes = self._epoch = 0

    def due(self, now: float, *, epoch: int, nbytes: int, per_second: float) -> bool:
        """Whether now is the time, which is then taken to have been used.

        Args:
          epoch: of the stream; a new one means that an older one's buffers were thrown away.
          nbytes: received since the process began.
          per_second: bytes received lately.
        """
        enough = _SOME if per_second < _NOTHING else _MUCH
        used = epoch != self._epoch or nbytes - self._nbytes >= enough
        if not used or per_second > _LITTLE or now < self._at + _GAP_S:
            return False
        self._at, self._epoch, self._nbytes = now, epoch, nbytes
        return True


def give_back() -> None:
    """Blocks for milliseconds, with the interpreter free. Does nothing where the C library has no such call."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
