"""Say what happens to children, to the supervisor's own hook or to the supervisor above.

Private to the supervisor.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from . import events
from .exits import Exit, ExitKind, classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from .actor import ActorContext
    from .child import Child, Run

_log = logging.getLogger(__name__)
_BAD = (ExitKind.CRASHED, ExitKind.ESCALATED)


class Reporter:
    """Sends the events of one run of a supervisor."""

    def __init__(
        self,
        path: str,
        ctx: ActorContext | None,
        hook: Callable[[events.Event], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._path = path
        self._ctx = ctx
        self._hook = hook
        self._clock = clock

    def say(self, kind: Callable[..., events.Event], child: Child, **values: object) -> None:
        """Build an event about a child and send it."""
        self.send(kind(supervisor=self._path, child=child.spec.id, at=self._clock(), **values))

    def send(self, event: events.Event) -> None:
        """Give an event to the hook; without one, to the supervisor above."""
        if self._hook is None:
            if self._ctx is not None:
                self._ctx.emit(event)
            return
        try:
            self._hook(event)
        except Exception:
            # A broken log line must not take the tree down.
            _log.exception("the event hook of supervisor %s failed", self._path)

    def ended(self, child: Child, run: Run, exit: Exit) -> None:
        """Bring the child's state, its last error and the hook up to date with an exit."""
        error = exit.error
        failed = error is not None and classify(error).kind in _BAD
        child.move("failed" if failed else "stopped", self._clock())
        if failed or exit.kind is ExitKind.RETRY:
            child.error = error
        match exit.kind:
            case ExitKind.RETURNED | ExitKind.SHUTDOWN:
                self.say(events.ChildExited, child, reason=exit.kind.value)
            case ExitKind.RETRY:
                self.say(events.ChildRetrying, child, reason=str(error))
            case ExitKind.STOPPED:
                took_s = trio.current_time() - run.ctx.stop_asked_at
                cancelled = run.ctx.scope.cancelled_caught
                self.say(events.ChildStopped, child, took_s=took_s, cancelled=cancelled, error=error)
            case _:
                self.say(events.ChildCrashed, child, error=error)
