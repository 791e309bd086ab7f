"""What a supervisor tells its one hook, as frozen values.

The complete set of a child's life: ChildStarted, then one of ChildExited (normal end),
ChildCrashed, ChildRetrying or ChildStopped (by the supervisor); after the first three,
ChildRestarting says that it comes back. Stalled and StopTimedOut carry a stack.
Escalated and AutoShutdownTriggered are the supervisor's own ends.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any

from .errors import error_text


@dataclass(frozen=True)
class Event(ABC):
    """Base of all events.

    Attributes:
      supervisor: path of the supervisor that speaks.
      child: id of the child it speaks of.
      at: seconds on the supervisor's clock.
    """

    supervisor: str
    child: str
    at: float

    def as_dict(self) -> dict[str, Any]:
        """A flat dict for structured logs; errors become text."""
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        shown = {key: error_text(v) if isinstance(v, BaseException) else v for key, v in values.items()}
        return {"event": name, **shown}

    def __str__(self) -> str:
        return f"{self.supervisor}/{self.child} {self.says()}"

    @abstractmethod
    def says(self) -> str:
        """The event as a phrase, without its subject."""


@dataclass(frozen=True)
class ChildStarted(Event):
    """The child called `ctx.started()`."""

    attempt: int
    took_s: float

    def says(self) -> str:
        return f"started (attempt {self.attempt}) after {self.took_s:.3g} s"


@dataclass(frozen=True)
class ChildExited(Event):
    """The child ended by itself and normally: it returned or raised Shutdown."""

    reason: str

    def says(self) -> str:
        return f"ended: {self.reason}"


@dataclass(frozen=True)
class ChildCrashed(Event):
    """The child failed; `error` is what it raised (Escalate included)."""

    error: Exception

    def says(self) -> str:
        return f"crashed: {error_text(self.error)}"


@dataclass(frozen=True)
class ChildRetrying(Event):
    """The child raised Retry; not a failure."""

    reason: str

    def says(self) -> str:
        return f"asks for a retry: {self.reason}"


@dataclass(frozen=True)
class ChildRestarting(Event):
    """The child, and its group, will be started again after `delay_s`."""

    delay_s: float
    counted: bool
    group: tuple[str, ...]

    def says(self) -> str:
        return f"restarts in {self.delay_s:.3g} s"


@dataclass(frozen=True)
class ChildStopped(Event):
    """The child ended because its supervisor stopped it; `error` is a failure during its cleanup."""

    took_s: float
    cancelled: bool
    error: Exception | None

    def says(self) -> str:
        how = "after its grace was over" if self.cancelled else "in time"
        why = f": {error_text(self.error)}" if self.error else ""
        return f"stopped {how} ({self.took_s:.3g} s){why}"


@dataclass(frozen=True)
class StopTimedOut(Event):
    """The child is still alive some time after it was cancelled; the supervisor waits on.

    Said after 1 s, 3 s, 7 s and so on, each pause twice the last, for a quarter of an hour. `waited_s` leaves out time
    that passed while the whole process stood still. A supervisor may only be busy with one child after the other.
    """

    waited_s: float
    stack: str
    role: str
    """`worker` or `supervisor`."""

    def says(self) -> str:
        return f"does not stop, {self.waited_s:.3g} s after its cancellation"


@dataclass(frozen=True)
class Stalled(Event):
    """The child was silent for too long and has been cancelled; a ChildCrashed follows."""

    silent_s: float
    stack: str

    def says(self) -> str:
        return f"was silent for {self.silent_s:.3g} s"


@dataclass(frozen=True)
class Escalated(Event):
    """The supervisor gives up because of this child and will raise `error`."""

    error: Exception

    def says(self) -> str:
        return f"takes its supervisor down: {error_text(self.error)}"


@dataclass(frozen=True)
class AutoShutdownTriggered(Event):
    """This significant child's end ends the supervisor normally."""

    def says(self) -> str:
        return "was significant: its supervisor ends"
