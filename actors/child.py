"""One child of a supervisor: its state over all starts, and the running of one start.

Private to the supervisor, which alone decides; nothing here starts, stops or counts by itself.
"""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import trio

from .errors import StallDetected, StartTimedOut, UnexpectedCancellation, error_text
from .exits import Exit, ExitKind, classify

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class Run:
    """One start of a child, from its first step to its last."""

    def __init__(self, ctx: ActorContext, started_at: float) -> None:
        self.ctx = ctx
        self.began_at = started_at
        self.ready_at = math.inf
        self.settled = trio.Event()
        self.finished = trio.Event()
        self.task: trio.lowlevel.Task | None = None
        self.stop_asked_at = math.inf
        self.cancel_at = math.inf
        self.stack = ""

    @property
    def stop_asked(self) -> bool:
        """Whether the supervisor wants it to end."""
        return self.ctx.stopping.is_set()

    def ask_to_stop(self, grace_s: float) -> None:
        """Set `ctx.stopping`; a second, shorter grace counts, a longer one does not."""
        now = trio.current_time()
        self.stop_asked_at = min(self.stop_asked_at, now)
        self.cancel_at = min(self.cancel_at, now + grace_s)
        self.ctx.stopping.set()

    async def execute(self, spec: ChildSpec) -> Exit:
        """Run the actor to its end and say how it ended; only what is no Exception passes."""
        self.task = trio.lowlevel.current_task()
        self.ctx.arm()
        error: Exception | None = None
        try:
            with self.ctx.scope:
                await self._run_noting_the_stack(spec)
        except trio.Cancelled:  # noqa: ASYNC103 - see below
            if trio.current_effective_deadline() == -math.inf:
                raise
            # Kept from an earlier cancellation and raised again where nothing is cancelled.
            error = UnexpectedCancellation("a Cancelled was raised although nothing was cancelled")
        except Exception as caught:
            error = caught
        return self._exit(error)

    async def _run_noting_the_stack(self, spec: ChildSpec) -> None:
        try:
            await spec.run(self.ctx)
        except BaseException as error:
            if self.timed_out:
                self.stack = "".join(traceback.format_exception(error))
            raise

    @property
    def timed_out(self) -> bool:
        """Whether the start or stall limit, and nobody else, cancelled it."""
        asked = self.stop_asked or self.ctx.cancelled_for is not None
        return self.ctx.scope.cancel_called and not asked

    def _exit(self, error: Exception | None) -> Exit:
        if self.stop_asked:
            return Exit(ExitKind.STOPPED, error)
        if error is None and self.ctx.scope.cancelled_caught:
            return Exit(ExitKind.CRASHED, self._cancellation())
        return classify(error)

    def _cancellation(self) -> Exception:
        if self.ctx.cancelled_for is not None:
            return UnexpectedCancellation(f"cancelled from outside: {self.ctx.cancelled_for}")
        silent_s = trio.current_time() - self.ctx.silent_since
        if self.ctx.is_started:
            return StallDetected(f"no beat for {silent_s:.3g} s, and it did not say what it waits for")
        return StartTimedOut(f"ctx.started() not called within {silent_s:.3g} s")


def stack_of(task: trio.lowlevel.Task) -> str:
    """Where a task and all tasks below it are, innermost call last."""
    lines: list[str] = []
    for each in _tree(task):
        lines.append(f"task {each.name}\n")
        frames = traceback.StackSummary.extract(each.iter_await_frames())
        lines.extend(frames.format())
    return "".join(lines)


def _tree(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for below in nursery.child_tasks:
            yield from _tree(below)
