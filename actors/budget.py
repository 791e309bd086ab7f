"""A limit on what is under way, in bytes, beside channels that count items.

Weights belong to a generation (an epoch, a connection): when it dies, so do all weights it held,
and late releases for it change nothing.

Rule 1: `acquire` lets a weight in when it fits, or when nothing else is out, so no item is too big to pass.
Rule 2: first come, first served; a small weight never overtakes a big one that waits.
Rule 3: only `swap`, which replaces a weight already let in, may pass the limit.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import trio

from .actor import waiting_here
from .errors import SpecError


@dataclass(frozen=True)
class BudgetStatistics:
    """One moment of a budget; `peak` is the most ever used."""

    limit: int
    used: int
    peak: int
    generation: int
    waiting: int


class WeightBudget:
    """Weights held, at most `limit` together.

    Args:
      limit: in the unit of the weights, above zero.
      generation: the first living generation.
    """

    def __init__(self, limit: int, *, generation: int = 0, name: str = "byte budget") -> None:
        if limit <= 0:
            raise SpecError(f"WeightBudget(limit={limit}): must be above zero")
        self.limit = limit
        self.name = name
        self._generation = generation
        self._held: dict[int, int] = {}
        self._used = 0
        self._peak = 0
        self._waiters: OrderedDict[trio.lowlevel.Task, tuple[int, int]] = OrderedDict()

    @property
    def used(self) -> int:
        """Weight held by all living generations."""
        return self._used

    async def acquire(self, weight: int, generation: int) -> None:
        """Hold a weight, waiting until it fits.

        For a dead generation it returns at once and holds nothing. Cancellation: nothing is held.
        """
        _check(weight)
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._dead(generation) or (not self._waiters and self._fits(weight)):
            self._add(weight, generation)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        task = trio.lowlevel.current_task()
        self._waiters[task] = (weight, generation)

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._waiters[task]
            # The one that left may have been the one in the way of the others.
            self._admit()
            return trio.lowlevel.Abort.SUCCEEDED

        with waiting_here(self.name):
            await trio.lowlevel.wait_task_rescheduled(abort)

    def release(self, weight: int, generation: int) -> None:
        """Let a weight go; ignored for a dead generation.

        Raises:
          ValueError: the generation does not hold that much.
        """
        self.swap(weight, 0, generation)

    def swap(self, old_weight: int, new_weight: int, generation: int) -> None:
        """Replace a held weight by another; never waits, and may pass the limit.

        Raises:
          ValueError: the generation does not hold the old weight.
        """
        _check(old_weight)
        _check(new_weight)
        if self._dead(generation):
            return
        held = self._held.get(generation, 0)
        if old_weight > held:
            raise ValueError(f"generation {generation} holds {held}, cannot let go of {old_weight}")
        self._add(new_weight - old_weight, generation)
        self._admit()

    def reset(self, generation: int) -> None:
        """Begin a generation: every other one is dead, its weights are gone and its waiters go on.

        Raises:
          ValueError: that generation is dead already.
        """
        if self._dead(generation):
            raise ValueError(f"generation {generation} is dead, {self._generation} lives")
        self._generation = generation
        self._held = {generation: self._held.get(generation, 0)}
        self._used = self._held[generation]
        self._admit()

    def statistics(self) -> BudgetStatistics:
        """A snapshot; cheap enough for every scrape."""
        return BudgetStatistics(self.limit, self._used, self._peak, self._generation, len(self._waiters))

    def _dead(self, generation: int) -> bool:
        return generation < self._generation

    def _fits(self, weight: int) -> bool:
        return self._used == 0 or self._used + weight <= self.limit

    def _add(self, weight: int, generation: int) -> None:
        if not self._dead(generation):
            self._held[generation] = self._held.get(generation, 0) + weight
            self._used += weight
            self._peak = max(self._peak, self._used)

    def _admit(self) -> None:
        dead = [task for task, (_, generation) in self._waiters.items() if self._dead(generation)]
        for task in dead:
            del self._waiters[task]
            trio.lowlevel.reschedule(task)
        while self._waiters:
            task, (weight, generation) = next(iter(self._waiters.items()))
            if not self._fits(weight):
                return
            del self._waiters[task]
            self._add(weight, generation)
            trio.lowlevel.reschedule(task)


def _check(weight: int) -> None:
    if weight < 0:
        raise ValueError(f"weight {weight} is negative")
