"""So many a second and no more: what keeps the admin HTTP from taking the processor from the pipelines.

Rule 1: nobody is refused, everybody waits for a turn. Turns are given in the order in which they are asked for.
Rule 2: turns that nobody took are kept, up to a burst, so that a person with a browser never waits.
"""

from __future__ import annotations

import trio


class Pace:
    """Gives turns at a rate."""

    __slots__ = ("_burst_s", "_interval_s", "_next")

    def __init__(self, per_second: float, burst: int) -> None:
        """`per_second` turns in the long run, `burst` of them at once after a pause."""
        self._interval_s = 1 / per_second
        self._burst_s = (burst - 1) * self._interval_s
        self._next = float("-inf")

    def reserve(self, now: float) -> float:
        """Take the next turn; returns the seconds until it. `now` is a clock in seconds that never goes back."""
        due = max(self._next, now)
        self._next = due + self._interval_s
        return max(0.0, due - self._burst_s - now)

    async def turn(self) -> None:
        """Wait for a turn. *Cancellation:* the turn is lost."""
        await trio.sleep(self.reserve(trio.current_time()))
