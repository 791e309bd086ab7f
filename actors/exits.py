"""How a child ended, reduced to the six kinds the restart table knows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .errors import Escalate, Retry, Shutdown, sole


class ExitKind(Enum):
    """The rows of the restart table."""

    RETURNED = "returned"
    SHUTDOWN = "shutdown"
    RETRY = "retry"
    CRASHED = "crashed"
    ESCALATED = "escalated"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Exit:
    """One end of one run of a child.

    Attributes:
      kind: row of the restart table.
      error: what was raised, as it was raised; None after a return.
      delay_s: for RETRY, the wait the child asked for.
    """

    kind: ExitKind
    error: Exception | None = None
    delay_s: float = 0.0


def classify(error: Exception | None) -> Exit:
    """Say how a child ended that its supervisor did not stop.

    A group counts as its worst member: one Escalate escalates, one ordinary error crashes;
    among requests to retry the longest delay wins.
    """
    if error is None:
        return Exit(ExitKind.RETURNED)
    leaves = _leaves(error)
    for leaf in leaves:
        if isinstance(leaf, Escalate):
            return Exit(ExitKind.ESCALATED, error)
    if not all(isinstance(leaf, Retry | Shutdown) for leaf in leaves):
        return Exit(ExitKind.CRASHED, error)
    delays = [leaf.delay_s for leaf in leaves if isinstance(leaf, Retry)]
    if delays:
        return Exit(ExitKind.RETRY, error, max(delays))
    return Exit(ExitKind.SHUTDOWN, error)


def find_escalate(error: BaseException) -> Escalate:
    """The first Escalate in an error that was classified as ESCALATED."""
    return next(leaf for leaf in _leaves(error) if isinstance(leaf, Escalate))


def _leaves(error: BaseException) -> list[BaseException]:
    shown = sole(error)
    if not isinstance(shown, BaseExceptionGroup):
        return [shown]
    return [leaf for member in shown.exceptions for leaf in _leaves(member)]
