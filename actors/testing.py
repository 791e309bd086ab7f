"""Tools for testing trees of actors: record events, script crashes, fix the jitter, vary the schedule.

Time: run such tests under `autojump_clock`; backoffs of hours take milliseconds. It sees neither threads
nor sockets, so tests with real input and output need real time.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from .events import Event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from hypothesis.strategies import SearchStrategy

    from .actor import ActorContext

E = TypeVar("E", bound=Event)


class EventRecorder:
    """A hook that keeps every event: `Supervisor(..., on_event=recorder)`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._arrived = trio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        arrived, self._arrived = self._arrived, trio.Event()
        arrived.set()

    def of(self, kind: type[E], child: str | None = None) -> list[E]:
        """All events of one kind so far, oldest first."""
        return [e for e in self.events if isinstance(e, kind) and child in (None, e.child)]

    async def wait_for(self, kind: type[E], child: str | None = None, count: int = 1) -> E:
        """Wait until `count` such events have come, counted from the first ever; return the last of them."""
        await trio.lowlevel.checkpoint()
        while len(found := self.of(kind, child)) < count:
            await self._arrived.wait()
        return found[count - 1]


class ManualRng:
    """A random generator without chance: always the same fraction of the range.

    Attributes:
      asked: the (low, high) pairs it was asked for.
    """

    def __init__(self, fraction: float = 1.0) -> None:
        self.fraction = fraction
        self.asked: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float, /) -> float:
        self.asked.append((a, b))
        return a + (b - a) * self.fraction


@dataclass(frozen=True)
class Step:
    """What a scripted actor does in one start.

    Args:
      error: what it raises; None = it returns.
      after_s: how long it works first; None = until it is asked to stop. Asked earlier, it returns.
      ready: whether it calls `ctx.started()` first.
      cleanup_s: how long it goes on, shielded, after `stopping` or a cancellation.
    """

    error: Exception | None = None
    after_s: float | None = None
    ready: bool = True
    cleanup_s: float = 0.0


HOLD = Step()
"""Run until asked to stop, then return at once."""


@dataclass
class ScriptedActor:
    """An actor that follows a script: one step for each start, HOLD when the script is over.

    Attributes:
      trace: ("start" | "end", id) in the order in which it happened; share one list among actors.
    """

    script: Iterable[Step] = ()
    trace: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = deque(self.script)

    async def __call__(self, ctx: ActorContext) -> None:
        step = self._left.popleft() if self._left else HOLD
        self.trace.append(("start", ctx.id))
        try:
            await _perform(step, ctx)
        finally:
            if step.cleanup_s:
                with trio.CancelScope(shield=True):
                    await trio.sleep(step.cleanup_s)
            self.trace.append(("end", ctx.id))


async def _perform(step: Step, ctx: ActorContext) -> None:
    if step.ready:
        ctx.started()
    with trio.move_on_after(math.inf if step.after_s is None else step.after_s):
        await ctx.stopping.wait()
        return
    if step.error is not None:
        raise step.error


def autojump() -> trio.abc.Clock:
    """A clock that jumps to the next deadline whenever all tasks wait."""
    # Here, not above: trio.testing loads pytest where it is installed.
    from trio.testing import MockClock

    return MockClock(autojump_threshold=0)


def given_schedules(
    clock: Callable[[], trio.abc.Clock] = autojump, /, **strategies: SearchStrategy[Any]
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """`hypothesis.given` for concurrent properties: also varies the order in which Trio runs ready tasks.

    Plain `given` tries one schedule only; here the schedule is an input like any other, so it is replayed
    and shrunk. Every example has its own event loop and clock, so the result is a plain function for any
    test runner. Hypothesis is needed only where this is used.

    Args:
      clock: makes the clock of one example; virtual time by default.
      strategies: as for `given`, by name.
    """
    from hypothesis import given
    from hypothesis import strategies as st

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        def scheduled(schedule: object, **drawn: object) -> None:
            trio.run(partial(test, **drawn), clock=clock())

        scheduled.__name__, scheduled.__doc__ = test.__name__, test.__doc__
        scheduled.__module__, scheduled.__qualname__ = test.__module__, test.__qualname__
        return given(schedule=st.random_module(), **strategies)(scheduled)

    return decorate
