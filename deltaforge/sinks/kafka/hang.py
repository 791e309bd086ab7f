"""Notice that librdkafka does not come back from a call, and end the process: nothing in the process can end the call.

Its threads wait by the wall clock. When that is set back by an hour within a wait, the wait lasts an hour longer than
was asked for, in a thread that cannot be cancelled, and no new producer may be made beside it. Ending is safe: nothing
is confirmed before it is durable, and whoever runs the process starts it again.

Rule 1: every call that is watched was asked to return within five seconds, most of them within one.
Rule 2: what counts is how often somebody looked meanwhile, not what a clock says: a process that was stopped and goes
        on has looked once.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from deltaforge import stderr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK_S: Final = 0.1
"""Between two looks."""
HUNG_S: Final = 15.0


def end() -> None:
    """Say why and end the process with 1, without any cleanup."""
    stderr.say(
        f"deltaforge: librdkafka did not return from a call for {HUNG_S:g} s, though asked to within five "
        "(was the wall clock set back?): ending at once"
    )
    stderr.flush(1.0)
    os._exit(1)


class CallWatch:
    """The calls of one client."""

    def __init__(self, on_hang: Callable[[], None] = end) -> None:
        """`on_hang` is called by the look that finds a call to have hung."""
        self._on_hang = on_hang
        self._begun = self._done = self._seen = self._looks = 0

    @property
    def waits(self) -> bool:
        """Whether a call is under way."""
        return self._begun > self._done

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around each call."""
        self._begun += 1
        try:
            yield
        finally:
            self._done += 1

    def look(self) -> None:
        """Every `LOOK_S` seconds: has any call returned since the last look?"""
        if self._done != self._seen or not self.waits:
            self._seen, self._looks = self._done, 0
            return
        self._looks += 1
        if self._looks * LOOK_S >= HUNG_S:
            self._looks = 0
            self._on_hang()
