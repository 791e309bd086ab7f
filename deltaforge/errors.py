"""Every error deltaforge raises on purpose, by whose fault it is and whether trying again can help.

DeltaforgeError
 |- ConfigError        the configuration file is wrong (exit 2)
 |- TransientError     a server is away or busy: waited out for ever, not a crash
 |- OperatorError      somebody has to change something; retried slowly, `blocked` meanwhile
 |- Refused            going on would lose or repeat data: the pipeline is parked, nothing is moved (exit 4)
 |- ProtocolViolation  a server sent what its protocol forbids
 `- UsageError         deltaforge called its own parts wrongly

`policy` below is the only place that maps an error to a reaction.
"""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """Whose fault, hence what to do."""

    CONFIG = "config"
    TRANSIENT = "transient"
    OPERATOR = "operator"
    REFUSED = "refused"
    BUG = "bug"


class DeltaforgeError(Exception):
    """Base class. The text says what was found; `hint` says what to do about it. Neither holds secrets or rows."""

    fault: Fault = Fault.BUG
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    def line(self) -> str:
        """The error in one line, hint included."""
        text = " ".join(str(self).split())
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(DeltaforgeError):
    """The configuration is wrong; nothing was started."""

    fault = Fault.CONFIG


class TransientError(DeltaforgeError):
    """A server is away, busy or restarting. Trying again is right, for ever."""

    fault = Fault.TRANSIENT


class OperatorError(DeltaforgeError):
    """A person has to change something outside. deltaforge goes on by itself once that is done."""

    fault = Fault.OPERATOR


class Refused(DeltaforgeError):
    """Going on would lose or repeat data. Nothing has been moved.

    The text names what was found, what was expected and the LSN range at stake; the hint names the flag, if one exists.
    """

    fault = Fault.REFUSED


class ProtocolViolation(DeltaforgeError):
    """A server sent bytes its protocol does not allow. The stream is not trusted any further."""

    fault = Fault.BUG
    hint = "report this with the server's version; the position is in the message"


class UsageError(DeltaforgeError):
    """One part of deltaforge called another in a way it must not."""

    fault = Fault.BUG
    hint = "this is a bug in deltaforge; please report it"


class SlotBusy(TransientError):
    """Another process holds the replication slot: this instance is the standby."""

    hint = "normal for a standby; otherwise stop the other reader or give this pipeline its own slot"


def policy(error: BaseException) -> Fault:
    """Map any error to a reaction. Unknown errors are bugs: they count as crashes."""
    return error.fault if isinstance(error, DeltaforgeError) else Fault.BUG
