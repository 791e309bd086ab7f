"""Memory that a busy time has left behind goes back to the system.

librdkafka and Python free what a backlog needed, but the C library keeps it: between what it freed lie pieces that are
still in use. On request glibc gives back the free pages between them; after a backlog that was 22 of 29 MiB.

Rule 1: it costs some milliseconds, and those pages have to be had again: only when little arrives, at most once a
        minute, and only after something that used much; once nothing arrives any more, after less.
Rule 2: threads share heaps. glibc would give each of up to eight threads a core its own, and what one burst leaves free
        in one heap is of no use to the next burst in another: in an hour of faults the process grew by 15 MiB more.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NOTHING, _LITTLE = 1024, 1024 * 1024
"""Bytes a second."""
_SOME, _MUCH = 1024 * 1024, 16 * 1024 * 1024
_GAP_S = 60.0
_M_ARENA_MAX, _HEAPS = -8, 2
_HEAPS_CHOSEN = "MALLOC_ARENA_MAX"
"""The environment variable by which glibc is told the same."""


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


def share_heaps() -> None:
    """Call it before there are threads. Does nothing where the operator chose, or where the C library is another."""
    mallopt: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and _HEAPS_CHOSEN not in os.environ:
        mallopt(_M_ARENA_MAX, _HEAPS)


def give_back() -> None:
    """Blocks for milliseconds, with the interpreter free. Does nothing where the C library has no such call."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
