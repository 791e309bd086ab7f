"""Supervision for Trio: actors that crash alone and come back in order.

The map, in the order of reading:
  spec        what a tree looks like, as checked data
  actor       what an actor sees of its supervisor
  exits       how a child ended            restart   the table that says what follows
  supervisor  the machine that obeys the table       child  its record of one child
  events      what it tells its one hook             errors  every exception
  mailbox, cell, budget   what actors share and no crash breaks
  watchdog    for the day the event loop itself hangs
  testing     for the tests of your own actors (import it by name)
"""

from .actor import ActorContext, beat_here, current_actor, waiting_here
from .budget import BudgetStatistics, WeightBudget
from .cell import Cell
from .child import ChildStatistics, SupervisorStatistics
from .errors import (
    ActorsError,
    Escalate,
    RestartIntensityExceeded,
    Retry,
    Shutdown,
    SpecError,
    StallDetected,
    StartFailed,
    StartTimedOut,
    UnexpectedCancellation,
    UnexpectedReturn,
    error_text,
)
from .events import (
    AutoShutdownTriggered,
    ChildCrashed,
    ChildExited,
    ChildRestarting,
    ChildRetrying,
    ChildStarted,
    ChildStopped,
    Escalated,
    Event,
    Stalled,
    StopTimedOut,
)
from .exits import Exit, ExitKind
from .mailbox import Leased, Mailbox, MailboxStatistics
from .restart import Action, Decision, RestartWindow, decide
from .spec import (
    IMMEDIATE,
    INFINITY,
    AutoShutdown,
    Backoff,
    ChildSpec,
    Kind,
    Restart,
    Strategy,
    SupervisorSpec,
)
from .supervisor import Supervisor
from .watchdog import LoopWatchdog

__all__ = [
    "IMMEDIATE",
    "INFINITY",
    "Action",
    "ActorContext",
    "ActorsError",
    "AutoShutdown",
    "AutoShutdownTriggered",
    "Backoff",
    "BudgetStatistics",
    "Cell",
    "ChildCrashed",
    "ChildExited",
    "ChildRestarting",
    "ChildRetrying",
    "ChildSpec",
    "ChildStarted",
    "ChildStatistics",
    "ChildStopped",
    "Decision",
    "Escalate",
    "Escalated",
    "Event",
    "Exit",
    "ExitKind",
    "Kind",
    "Leased",
    "LoopWatchdog",
    "Mailbox",
    "MailboxStatistics",
    "Restart",
    "RestartIntensityExceeded",
    "RestartWindow",
    "Retry",
    "Shutdown",
    "SpecError",
    "StallDetected",
    "Stalled",
    "StartFailed",
    "StartTimedOut",
    "StopTimedOut",
    "Strategy",
    "Supervisor",
    "SupervisorSpec",
    "SupervisorStatistics",
    "UnexpectedCancellation",
    "UnexpectedReturn",
    "WeightBudget",
    "beat_here",
    "current_actor",
    "decide",
    "error_text",
    "waiting_here",
]
