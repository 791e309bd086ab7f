"""Tools for testing trees of actors: record events, script crashes, fix the jitter, vary the schedule.

Time: run such tests under `autojump_clock`; backoffs of hours take milliseconds. It sees neither threads
nor sockets, so tests with real input and output need real time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

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
      after_s: how long it works first; None = until it is asked to stop.
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
    if step.after_s is None:
        await ctx.stopping.wait()
    else:
        await trio.sleep(step.after_s)
    if step.error is not None:
        raise step.error


AsyncTest = TypeVar("AsyncTest", bound="Callable[..., Awaitable[None]]")


def given_schedules(**strategies: SearchStrategy[Any]) -> Callable[[AsyncTest], AsyncTest]:
    """`hypothesis.given` for concurrent properties: also varies the order in which Trio runs ready tasks.

    Plain `given` tries one schedule only; here the schedule is an input like any other, so it is replayed
    and shrunk. Hypothesis is needed only where this is used.
    """
    from hypothesis import given
    from hypothesis import strategies as st

    def decorate(test: AsyncTest) -> AsyncTest:
        @wraps(test)
        async def scheduled(*args: object, schedule: object, **kwargs: object) -> None:
            await test(*args, **kwargs)

        return cast("AsyncTest", given(schedule=st.random_module(), **strategies)(scheduled))

    return decorate
