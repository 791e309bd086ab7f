"""Judge an exit with everything a supervisor remembers: its window, its children's failures in a row, their causes.

Adds to the table of `restart` what needs memory or chance: first starts, errors to raise, jitter.

Rule 1: a first start that fails is not restarted; it fails the supervisor. A Retry and a normal end are no failures.
Rule 2: a run of `reset_after_s` after `ctx.started()` is stable: failures in a row start from 0 again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .errors import Escalate, RestartIntensityExceeded, StartFailed, UnexpectedReturn
from .exits import Exit, ExitKind, find_escalate
from .restart import Action, Decision, RestartWindow, decide

if TYPE_CHECKING:
    from .child import Child
    from .spec import SupervisorSpec

# Tracebacks keep frames alive; more than this many do not make an escalation clearer.
_MOST_CAUSES = 16


class Rng(Protocol):
    """The one thing asked of a random generator; `random.Random` has it."""

    def uniform(self, a: float, b: float, /) -> float: ...


@dataclass(frozen=True)
class Verdict:
    """What the supervisor shall do.

    Attributes:
      delay_s: before a restart, jitter included.
      counted: whether the restart was counted.
      error: what the supervisor raises when it escalates.
    """

    action: Action
    delay_s: float = 0.0
    counted: bool = False
    error: Exception | None = None


class Ledger:
    """The memory of one run of a supervisor."""

    def __init__(self, path: str, spec: SupervisorSpec, rng: Rng) -> None:
        limits = (spec.intensity or 0, spec.max_consecutive or 0)
        self._path = path
        self._rng = rng
        self._window = RestartWindow(spec.intensity, spec.period_s, spec.max_consecutive)
        self._causes: deque[Exception] = deque(maxlen=min(max(limits) + 1, _MOST_CAUSES))

    def judge(self, child: Child, exit: Exit, now: float, ran_s: float) -> Verdict:
        """Decide on an exit no stop was on for; `ran_s` is the time since `ctx.started()`, negative without."""
        if ran_s >= child.spec.backoff.reset_after_s:
            child.failures = 0
        decision = decide(exit, child.spec, self._window, now, failures=child.failures)
        if not child.was_ready and (refusal := self._refusal(child, exit, decision)):
            return Verdict(Action.ESCALATE, error=refusal)
        self._window = decision.window
        if decision.counted:
            child.failures += 1
            self._causes.append(_cause(exit))
        match decision.action:
            case Action.RESTART:
                jitter_s = self._rng.uniform(0.0, decision.jitter_s) if decision.jitter_s else 0.0
                return Verdict(Action.RESTART, decision.delay_s + jitter_s, decision.counted)
            case Action.ESCALATE:
                return Verdict(Action.ESCALATE, error=self._giving_up(child, exit, decision))
            case _:
                return Verdict(Action.DROP)

    def _refusal(self, child: Child, exit: Exit, decision: Decision) -> Exception | None:
        if exit.kind is ExitKind.ESCALATED:
            return Escalate(find_escalate(_cause(exit)).cause)
        normal_end = exit.kind in (ExitKind.RETURNED, ExitKind.SHUTDOWN) and decision.action is Action.DROP
        wanted = exit.kind is ExitKind.RETRY and decision.action is Action.RESTART
        return None if normal_end or wanted else StartFailed(f"{self._path}/{child.spec.id}", _cause(exit))

    def _giving_up(self, child: Child, exit: Exit, decision: Decision) -> Exception:
        if exit.kind is ExitKind.ESCALATED:
            # A new one for every level: raising the same object again would mix the tracebacks.
            return Escalate(find_escalate(_cause(exit)).cause)
        causes = ExceptionGroup(f"last failures below {self._path}", list(self._causes))
        return RestartIntensityExceeded(f"{self._path}/{child.spec.id}", causes, decision.limit)


def _cause(exit: Exit) -> Exception:
    return exit.error or UnexpectedReturn("it returned, but it is PERMANENT")
