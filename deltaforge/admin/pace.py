"""So many a second and no more: what keeps the admin HTTP from taking the processor from the pipelines.

Rule 1: nobody is refused, everybody waits for a turn. Turns are given in the order in which they are asked for.
Rule 2: turns that nobody took are kept, up to a burst, so that a person with a browser never waits.
Rule 3: who goes away while waiting takes no turn, so that clients who ask and leave do not make others wait.
"""

from __future__ import annotations

import trio


class Pace:
    """Gives turns at a rate."""

    __slots__ = ("_burst_s", "_interval_s", "_line", "_next")

    def __init__(self, per_second: float, burst: int) -> None:
        """`per_second` turns in the long run, `burst` of them at once after a pause."""
        self._interval_s = 1 / per_second
        self._burst_s = (burst - 1) * self._interval_s
        self._next = float("-inf")
        self._line = trio.Lock()

    def wait_s(self, now: float) -> float:
        """The seconds until the next turn. `now` is a clock in seconds that never goes back."""
        return max(0.0, self._next - self._burst_s - now)

    def take(self, now: float) -> None:
        """Take the next turn."""
        self._next = max(self._next, now) + self._interval_s

    async def turn(self) -> None:
        """Wait for a turn. *Cancellation:* the turn is left to the next in the line."""
        # The lock is the line: Trio's gives way in the order in which it was asked for.
        async with self._line:
            await trio.sleep(self.wait_s(trio.current_time()))
            self.take(trio.current_time())
