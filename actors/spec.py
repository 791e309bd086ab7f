"""What a tree looks like, as frozen data that is checked where it is written.

Rule 1: a specification that cannot work raises SpecError at construction, never later.
Rule 2: nothing here runs anything; the meaning of these values is in `restart`.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from .errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .actor import ActorContext

IMMEDIATE: Final = 0.0
"""Shutdown value: cancel without grace. Trio cannot kill: a shielded child still ends in its own time."""

INFINITY: Final = math.inf
"""Shutdown or start value: wait for as long as it takes."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SpecError(message)


class Restart(Enum):
    """When a child that ended by itself is started again."""

    PERMANENT = "permanent"  # always
    TRANSIENT = "transient"  # only after a crash
    TEMPORARY = "temporary"  # never


class Strategy(Enum):
    """Which siblings are restarted together with a failed child."""

    ONE_FOR_ONE = "one_for_one"  # none
    ONE_FOR_ALL = "one_for_all"  # all
    REST_FOR_ONE = "rest_for_one"  # those started after it


class AutoShutdown(Enum):
    """Whether a supervisor stops by itself when significant children have ended."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


class Kind(Enum):
    """Whether a child is a supervisor itself."""

    WORKER = "worker"
    SUPERVISOR = "supervisor"


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a counted restart: `uniform(0, min(cap_s, base_s * 2**n))`.

    `n` counts the child's failures in a row and returns to 0 after `reset_after_s` of stable running.
    """

    base_s: float = 0.1
    cap_s: float = 5.0
    reset_after_s: float = 60.0

    def __post_init__(self) -> None:
        _require(0 <= self.base_s < math.inf, f"Backoff.base_s={self.base_s}: must be finite and not negative")
        _require(self.base_s <= self.cap_s < math.inf, f"Backoff.cap_s={self.cap_s}: must be finite, at least base_s")
        _require(self.reset_after_s >= 0, f"Backoff.reset_after_s={self.reset_after_s}: must not be negative")

    def bound_s(self, failures: int) -> float:
        """Longest wait in seconds after `failures` earlier failures in a row."""
        # 2**60 is beyond any cap worth writing; unbounded, the power would overflow a float.
        return float(min(self.cap_s, self.base_s * 2 ** min(failures, 60)))


@dataclass(frozen=True)
class ChildSpec:
    """One child of a supervisor.

    Args:
      id: unique among its siblings, without "/".
      run: the actor; called anew for every start.
      restart: when it is started again.
      shutdown_s: grace between `ctx.stopping` and cancellation; IMMEDIATE, seconds or INFINITY.
      sibling_shutdown_s: grace when stopped only to be restarted with a failed sibling; None = shutdown_s.
      kind: WORKER or SUPERVISOR (see `Supervisor.child_spec`).
      significant: its end by itself may shut the supervisor down (see AutoShutdown).
      start_within_s: seconds until `ctx.started()` must be called; time in `ctx.waiting()` is free.
      stall_after_s: seconds without `ctx.beat()` and outside `ctx.waiting()` that count as a crash.
      backoff: the wait before counted restarts.
      return_is_crash: a return is a crash unless a stop is on: for stages of a pipeline.
    """

    id: str
    run: Callable[[ActorContext], Awaitable[None]]
    _: KW_ONLY
    restart: Restart = Restart.PERMANENT
    shutdown_s: float = 5.0
    sibling_shutdown_s: float | None = None
    kind: Kind = Kind.WORKER
    significant: bool = False
    start_within_s: float = 30.0
    stall_after_s: float | None = None
    backoff: Backoff = Backoff()
    return_is_crash: bool = False

    def __post_init__(self) -> None:
        check_id(self.id)
        _require(callable(self.run), f"child {self.id!r}: run must be an async callable")
        _require(self.shutdown_s >= 0, f"child {self.id!r}: shutdown_s={self.shutdown_s} must not be negative")
        sibling = self.sibling_shutdown_s
        _require(sibling is None or sibling >= 0, f"child {self.id!r}: sibling_shutdown_s must not be negative")
        _require(self.start_within_s > 0, f"child {self.id!r}: start_within_s must be above zero")
        stall = self.stall_after_s
        _require(stall is None or stall > 0, f"child {self.id!r}: stall_after_s must be above zero")
        permanent = self.restart is Restart.PERMANENT
        _require(
            not (self.significant and permanent),
            f"child {self.id!r}: a PERMANENT child never ends by itself, so it cannot be significant",
        )


@dataclass(frozen=True)
class SupervisorSpec:
    """How a supervisor treats its children.

    Args:
      strategy: who is restarted with whom.
      intensity: restarts allowed within `period_s`; one more escalates. None = no limit.
      period_s: length of the restart window in seconds.
      max_consecutive: restarts in a row without a stable run that one child is allowed. None = no limit.
      auto_shutdown: whether the end of significant children ends the supervisor.
    """

    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int | None = 1
    period_s: float = 5.0
    max_consecutive: int | None = None
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER

    def __post_init__(self) -> None:
        _require(self.intensity is None or self.intensity >= 0, f"intensity={self.intensity}: must not be negative")
        _require(0 < self.period_s < math.inf, f"period_s={self.period_s}: must be finite and above zero")
        limit = self.max_consecutive
        _require(limit is None or limit >= 0, f"max_consecutive={limit}: must not be negative")

    def check_children(self, children: Sequence[ChildSpec]) -> None:
        """Refuse children that cannot work under this supervisor.

        Raises:
          SpecError: a duplicate id, a significant child nobody listens to, or a backoff that hides a crash loop.
        """
        seen: set[str] = set()
        for child in children:
            _require(child.id not in seen, f"child id {child.id!r} is used twice")
            seen.add(child.id)
            self._check_child(child)

    def _check_child(self, child: ChildSpec) -> None:
        _require(
            not child.significant or self.auto_shutdown is not AutoShutdown.NEVER,
            f"child {child.id!r} is significant, but auto_shutdown is NEVER",
        )
        if child.restart is Restart.TEMPORARY or self.intensity is None:
            return
        waits_s = sum(child.backoff.bound_s(n) for n in range(self.intensity))
        _require(
            waits_s < self.period_s,
            f"child {child.id!r}: {self.intensity} backoffs may take {waits_s:g} s, not below period_s="
            f"{self.period_s:g}: a crash loop could stay unseen for ever; shorten the backoff or lengthen the period",
        )


def check_id(id: str) -> None:
    """Refuse an id that cannot be one step of a path."""
    _require(bool(id) and "/" not in id, f"id {id!r}: must not be empty and must not contain '/'")
