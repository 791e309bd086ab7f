"""What a supervisor works with: a child over all its starts, one start, and a job for several children.

Private to the supervisor, which alone decides; nothing here starts, stops or counts by itself.
"""

from __future__ import annotations

import math
import traceback
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import trio

from .errors import StallDetected, StartTimedOut, UnexpectedCancellation, error_text
from .exits import Exit, ExitKind, classify

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .actor import ActorContext
    from .spec import ChildSpec

State = Literal["starting", "running", "waiting", "backoff", "stopping", "stopped", "failed"]


@dataclass(frozen=True)
class ChildStatistics:
    """One moment of one child.

    Attributes:
      restarts: starts after a failure, its own or a sibling's.
      retries: starts after a Retry, its own or a sibling's.
      waiting_for: what the child said it waits for (state "waiting").
      last_error: type name and message of the last error, kept across restarts.
      since: when it came into this state, on the supervisor's clock.
      children: of a child that is a supervisor.
    """

    id: str
    state: State
    restarts: int
    retries: int
    waiting_for: str | None
    last_error: str | None
    since: float
    children: tuple[ChildStatistics, ...] | None


@dataclass(frozen=True)
class SupervisorStatistics:
    """One moment of a supervisor and all below it."""

    id: str
    children: tuple[ChildStatistics, ...]


class Child:
    """What a supervisor remembers of a child between its starts."""

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.state: State = "stopped"
        self.since = -math.inf
        self.run: Run | None = None
        self.attempts = 0
        self.restarts = 0
        self.retries = 0
        self.failures = 0
        self.was_ready = False
        self.dropped = False
        self.error: Exception | None = None

    @property
    def alive(self) -> bool:
        """Whether a task of this child exists."""
        return self.run is not None and not self.run.finished.is_set()

    @property
    def settled(self) -> bool:
        """Whether its supervisor no longer waits for its first start."""
        return self.was_ready or self.dropped

    def move(self, state: State, now: float) -> None:
        """Enter a state at `now`."""
        self.state = state
        self.since = now

    def hurry(self) -> None:
        """Take the grace away from a stop that is on."""
        if self.run is not None and self.run.stop_asked:
            self.run.ask_to_stop(0.0)

    def statistics(self) -> ChildStatistics:
        """A snapshot of this child and all below it."""
        ctx = self.run.ctx if self.run else None
        waiting_for = ctx.waiting_for if ctx and self.alive else None
        waits = self.state == "running" and waiting_for is not None
        return ChildStatistics(
            id=self.spec.id,
            state="waiting" if waits else self.state,
            restarts=self.restarts,
            retries=self.retries,
            waiting_for=waiting_for,
            last_error=None if self.error is None else error_text(self.error),
            since=self.since,
            children=ctx.subtree() if ctx and ctx.subtree else None,
        )


class Job:
    """A group of children to stop, let rest, and start in order.

    Attributes:
      left: members that are not ready yet, in start order.
      after: jobs it has taken over from, to be waited for.
    """

    def __init__(self, children: Iterable[Child], delay_s: float, *, counted: bool, after: Sequence[Job]) -> None:
        self.left = deque(children)
        self.delay_s = delay_s
        self.counted = counted
        self.after = after
        self.scope = trio.CancelScope()
        self.done = trio.Event()

    def overlaps(self, group: Sequence[Child]) -> bool:
        """Whether it still has to do with a child of that group."""
        return not self.scope.cancel_called and any(child in group for child in self.left)


class Run:
    """One start of a child, from its first step to its last."""

    def __init__(self, ctx: ActorContext, began_at: float) -> None:
        self.ctx = ctx
        self.began_at = began_at
        self.ready_at = math.inf
        self.settled = trio.Event()
        self.finished = trio.Event()
        self.silent_s = 0.0
        self._task: trio.lowlevel.Task | None = None

    @property
    def stop_asked(self) -> bool:
        """Whether the supervisor wants it to end."""
        return self.ctx.stopping.is_set()

    def ask_to_stop(self, grace_s: float) -> None:
        """Give the actor `grace_s` seconds to end by itself."""
        self.ctx.ask_to_stop(trio.current_time() + grace_s)

    def why_cancelled(self) -> str:
        """For `scope.cancel(reason=...)`."""
        if self.stop_asked:
            return f"{self.ctx.path}: its grace is over"
        return f"{self.ctx.path}: {self.ctx.cancelled_for or 'silent for too long'}"

    def stack(self) -> str:
        """Where the child and all tasks below it are, innermost call last."""
        return "" if self._task is None else "".join(_stack_lines(self._task))

    async def execute(self, spec: ChildSpec) -> Exit:
        """Run the actor to its end and say how it ended; only what is no Exception passes."""
        self._task = trio.lowlevel.current_task()
        self.ctx.arm()
        await trio.lowlevel.checkpoint()
        error: Exception | None = None
        stray = _StrayCancelled()
        try:
            with stray, self.ctx.scope:
                await spec.run(self.ctx)
        except Exception as caught:
            error = caught
        return self._exit(stray.error or error)

    def _exit(self, error: Exception | None) -> Exit:
        if self.stop_asked:
            return Exit(ExitKind.STOPPED, error)
        # A child that was cancelled may still return: a shield, or a thread that came back at last.
        cancelled = self.silent_s > 0 or self.ctx.cancelled_for is not None or self.ctx.scope.cancelled_caught
        if error is None and cancelled:
            return Exit(ExitKind.CRASHED, self._cancellation())
        return classify(error)

    def _cancellation(self) -> Exception:
        if not self.silent_s:
            return UnexpectedCancellation(f"not cancelled by its supervisor: {self.ctx.cancelled_for}")
        if self.ctx.is_started:
            return StallDetected(f"no beat for {self.silent_s:.3g} s, and it did not say what it waits for")
        return StartTimedOut(f"ctx.started() not called within {self.silent_s:.3g} s")


class _StrayCancelled:
    """Stops a Cancelled that was kept and raised again where nothing is cancelled.

    Let through, it would end the whole tree without a trace of its origin.
    """

    error: Exception | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, tb: object) -> bool:
        if isinstance(error, trio.Cancelled) and trio.current_effective_deadline() > -math.inf:
            self.error = UnexpectedCancellation("it raised Cancelled although nothing was cancelled")
        return self.error is not None


def _stack_lines(task: trio.lowlevel.Task) -> Iterator[str]:
    yield f"task {task.name}\n"
    yield from traceback.StackSummary.extract(task.iter_await_frames()).format()
    for nursery in task.child_nurseries:
        for below in nursery.child_tasks:
            yield from _stack_lines(below)
