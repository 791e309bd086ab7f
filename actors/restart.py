"""The restart table: what a supervisor does when a child has ended. Pure; called by `supervisor`.

| exit            | PERMANENT           | TRANSIENT           | TEMPORARY |
|-----------------|---------------------|---------------------|-----------|
| RETURNED        | restart, counted    | drop                | drop      |
| SHUTDOWN        | restart, counted    | drop                | drop      |
| RETRY(delay)    | restart after delay | restart after delay | drop      |
| CRASHED         | restart, counted    | restart, counted    | drop      |
| ESCALATED       | escalate            | escalate            | drop      |
| STOPPED (group) | restart             | restart             | drop      |

Rule 1: a counted restart adds one stamp to the window; more than `intensity` stamps escalate.
Rule 2: stamps older than `period_s` are forgotten, and only when a new one is added.
Rule 3: independent of the window, more than `max_consecutive` failures in a row of one child escalate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from .exits import Exit, ExitKind
from .spec import ChildSpec, Restart, Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

M = TypeVar("M")


class Action(Enum):
    """What to do with a child that has ended."""

    RESTART = "restart"
    DROP = "drop"
    ESCALATE = "escalate"


@dataclass(frozen=True)
class RestartWindow:
    """Stamps of the counted restarts of one supervisor, and its limits."""

    intensity: int | None
    period_s: float
    max_consecutive: int | None = None
    stamps: tuple[float, ...] = ()

    def add(self, now: float) -> RestartWindow:
        """Count one restart at `now` (seconds); forget what has left the window."""
        if self.intensity is None:
            return self
        kept = tuple(stamp for stamp in self.stamps if stamp >= now - self.period_s)
        return replace(self, stamps=(*kept, now))

    @property
    def exceeded(self) -> bool:
        """Whether the last restart counted was one too many."""
        return self.intensity is not None and len(self.stamps) > self.intensity


@dataclass(frozen=True)
class Decision:
    """What the supervisor shall do, and the window it goes on with.

    Attributes:
      delay_s: exact wait before the restart (RETRY only).
      jitter_s: upper bound of a random wait before the restart.
      limit: for an escalation, which limit was passed; empty when the child itself asked.
    """

    action: Action
    window: RestartWindow
    counted: bool = False
    delay_s: float = 0.0
    jitter_s: float = 0.0
    limit: str = ""


def decide(exit: Exit, spec: ChildSpec, window: RestartWindow, now: float, *, failures: int = 0) -> Decision:
    """Look one exit up in the table.

    Args:
      exit: how the child ended.
      spec: the child's specification.
      window: the supervisor's window before this exit.
      now: seconds on the supervisor's clock.
      failures: counted failures of this child in a row before this one.
    """
    if spec.restart is Restart.TEMPORARY:
        return Decision(Action.DROP, window)
    match exit.kind:
        case ExitKind.ESCALATED:
            return Decision(Action.ESCALATE, window)
        case ExitKind.STOPPED:
            return Decision(Action.RESTART, window)
        case ExitKind.RETRY:
            return Decision(Action.RESTART, window, delay_s=exit.delay_s)
        case ExitKind.RETURNED | ExitKind.SHUTDOWN if spec.restart is Restart.TRANSIENT:
            return Decision(Action.DROP, window)
        case _:
            return _count(spec, window.add(now), failures)


def group_of(strategy: Strategy, children: Sequence[M], failed: M) -> Sequence[M]:
    """Who is restarted together with a failed child, itself included, in start order."""
    match strategy:
        case Strategy.ONE_FOR_ONE:
            return [failed]
        case Strategy.REST_FOR_ONE:
            return children[children.index(failed) :]
        case _:
            return children


def _count(spec: ChildSpec, window: RestartWindow, failures: int) -> Decision:
    if window.exceeded:
        limit = f"failed {len(window.stamps)} times within {window.period_s:g} s, {window.intensity} allowed"
        return Decision(Action.ESCALATE, window, counted=True, limit=limit)
    if window.max_consecutive is not None and failures + 1 > window.max_consecutive:
        limit = f"failed {failures + 1} times in a row, {window.max_consecutive} allowed"
        return Decision(Action.ESCALATE, window, counted=True, limit=limit)
    return Decision(Action.RESTART, window, counted=True, jitter_s=spec.backoff.bound_s(failures))
