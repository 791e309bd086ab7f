"""Every exception of the library, and whose fault each one is.

ActorsError
+-- SpecError                   you described a tree that cannot work
+-- Shutdown, Retry, Escalate   an actor raises these to say how it ends
+-- RestartIntensityExceeded    a child failed more often than its supervisor allows
+-- StartFailed                 a child could not be started for the first time
+-- UnexpectedReturn            a child that must not return did
+-- UnexpectedCancellation      somebody other than its supervisor cancelled a child
+-- StartTimedOut, StallDetected  a child was silent for too long
"""

from __future__ import annotations


class ActorsError(Exception):
    """Base of all errors raised by this library."""


class SpecError(ActorsError, ValueError):
    """A specification contradicts itself; raised where it is written, never later."""


class Shutdown(ActorsError):
    """Raised by an actor to end normally from deep inside its own code."""


class Retry(ActorsError):
    """Raised by an actor to be started again for a cause that is not its fault.

    A server that is away, or a wanted rewind. Never counted as a failure.

    Args:
      delay_s: seconds to wait before the next start; taken as it is, without jitter.
      reason: a few words for events and statistics.
    """

    def __init__(self, delay_s: float = 0.0, reason: str = "") -> None:
        if not 0.0 <= delay_s < float("inf"):
            raise SpecError(f"Retry(delay_s={delay_s}): must be finite and not negative")
        super().__init__(reason or "asked to be started again")
        self.delay_s = delay_s
        self.reason = reason


class Escalate(ActorsError):
    """Raised by an actor for an error that no restart can cure.

    Skips every restart window on the way up. The root, or the first ancestor that
    runs as TEMPORARY, sees `cause`.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause
        self.__cause__ = cause


class RestartIntensityExceeded(ActorsError):
    """A supervisor gave up: a child failed more often than allowed.

    Attributes:
      child: path of the child whose failure was one too many.
      causes: the last failures of this supervisor's children, oldest first.
    """

    def __init__(self, child: str, causes: ExceptionGroup[Exception], limit: str) -> None:
        super().__init__(f"{child}: {limit}; last failure: {error_text(causes.exceptions[-1])}")
        self.child = child
        self.causes = causes
        self.__cause__ = causes


class StartFailed(ActorsError):
    """A child's first start failed, so its supervisor does not run at all."""

    def __init__(self, child: str, cause: Exception) -> None:
        super().__init__(f"{child} did not start: {error_text(cause)}")
        self.child = child
        self.__cause__ = cause


class UnexpectedReturn(ActorsError):
    """A child returned although it is meant to run until it is stopped."""


class UnexpectedCancellation(ActorsError):
    """A child was cancelled although its supervisor did not stop it."""


class StartTimedOut(ActorsError):
    """A child neither called `ctx.started()` nor said what it waits for in time."""


class StallDetected(ActorsError):
    """A running child neither made a beat nor said what it waits for in time."""


def error_text(error: BaseException) -> str:
    """Type name and message of an error; a group of one shows its only member."""
    shown = sole(error)
    if isinstance(shown, Escalate):
        shown = sole(shown.cause)
    message = str(shown)
    return f"{type(shown).__name__}: {message}" if message else type(shown).__name__


def sole(error: BaseException) -> BaseException:
    """Unwrap groups of one, for showing and classifying only.

    The original must be kept for raising: raising a member again changes its traceback.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
