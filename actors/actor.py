"""What an actor sees of its supervisor: readiness, beats, waiting, and the wish that it stop.

An actor is any `async def run(ctx: ActorContext) -> None`. One context lives as long as one start.

Rule 1: one limit at a time, on Trio's clock: the time to start, then to the next beat, then the grace of a stop.
Rule 2: inside `waiting` there is no limit: a server that is away is no hang.
Rule 3: a beat moves the limit only between start and stop.
"""

from __future__ import annotations

import math
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from .child import ChildStatistics
    from .events import Event


class ActorContext:
    """The handle an actor gets for one start.

    Attributes:
      id: the child's id.
      path: ids from the root, joined by "/".
      attempt: 0 for the first start, one more for every later one.
      stopping: set when the supervisor wants this child to end by itself within its grace.
    """

    def __init__(
        self,
        id: str,
        *,
        path: str = "",
        attempt: int = 0,
        start_within_s: float = math.inf,
        stall_after_s: float | None = None,
        on_started: Callable[[], None] = lambda: None,
        draining: Callable[[], bool] = lambda: False,
        emit: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.id = id
        self.path = path or id
        self.attempt = attempt
        self.stopping = trio.Event()
        self.stop_asked_at = math.inf
        self.scope = trio.CancelScope()
        self.limit = trio.CancelScope()
        self.cancelled_for: str | None = None
        self.emit = emit
        self.is_started = False
        self.silent_since = self.waiting_since = math.inf
        self.subtree: Callable[[], tuple[ChildStatistics, ...]] | None = None
        self._start_within_s = start_within_s
        self._stall_after_s = math.inf if stall_after_s is None else stall_after_s
        self._on_started = on_started
        self._draining = draining
        self._waits: dict[object, str] = {}

    @property
    def draining(self) -> bool:
        """Whether this stop is for good: this child's supervisor, or one above it, is being stopped.

        False while `stopping` is set for a restart of the group: then keep mailboxes open.
        """
        return self._draining()

    @property
    def waiting_for(self) -> str | None:
        """What the innermost `waiting` said, None when the actor works."""
        return next(reversed(self._waits.values()), None)

    def started(self) -> None:
        """Tell the supervisor that this child is ready, so the next one may start. Once is enough."""
        if not self.is_started:
            self.is_started = True
            self._rearm()
            self._on_started()

    def beat(self) -> None:
        """Say that work goes on; call it at least once per `stall_after_s`."""
        if self.is_started and not self._waits and self._stall_after_s < math.inf:
            self._rearm()

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Say what this actor waits for: shown in statistics, and no stall meanwhile.

        With several tasks in one actor, one waiting task speaks for all of them.
        """
        if not self._waits:
            self.waiting_since = trio.current_time()
        token = object()
        self._waits[token] = what
        self._limit_at(math.inf)
        try:
            yield
        finally:
            del self._waits[token]
            if not self._waits:
                self._rearm()

    def cancel(self, reason: str) -> None:
        """Cancel this child from outside its supervisor; counts as a crash.

        For fault injection and for owners who know that the child is beyond help.
        """
        self.cancelled_for = reason
        self.limit.cancel(reason=reason)

    def ask_to_stop(self, cancel_at: float) -> None:
        """Set `stopping`; a later call may shorten the grace, never lengthen it.

        For the supervisor, and for owners who ask several children at once before it asks them one by one.
        """
        self.stop_asked_at = min(self.stop_asked_at, trio.current_time())
        self.limit.deadline = min(cancel_at, self.limit.deadline) if self.stopping.is_set() else cancel_at
        self.stopping.set()

    def arm(self) -> None:
        """Begin the time to start; called when the child's task begins."""
        _current.set(self)
        self._rearm()

    def _rearm(self) -> None:
        self.silent_since = trio.current_time()
        limit_s = self._stall_after_s if self.is_started else self._start_within_s
        self._limit_at(math.inf if self._waits else self.silent_since + limit_s)

    def _limit_at(self, deadline: float) -> None:
        if not self.stopping.is_set():
            self.limit.deadline = deadline


_current: ContextVar[ActorContext | None] = ContextVar("actors_current", default=None)


def current_actor() -> ActorContext | None:
    """The context of the child this task belongs to, None outside of any."""
    return _current.get()


def waiting_here(what: str) -> AbstractContextManager[None]:
    """`ctx.waiting(what)` for the child this task belongs to, if any."""
    ctx = _current.get()
    return nullcontext() if ctx is None else ctx.waiting(what)


def beat_here() -> None:
    """`ctx.beat()` for the child this task belongs to, if any."""
    ctx = _current.get()
    if ctx is not None:
        ctx.beat()
