"""Whether librdkafka may have sent a commit twice, so that a late copy may still be on its way. Pure: no clock.

Theory of operation. librdkafka sends EndTxn again by itself, `retry.backoff.ms` later, when the request or the
coordinator's connection was lost. All it says of that is a line in its log, and not always: of errors that are like the
last one of their connection it tells two, then none for 30 s; connections that were closed after a minute without use
it never tells, and counts them all the same. A new client has a new log.

Rule 1: a commit that was quicker than the shortest back-off was sent once.
Rule 2: any other may have been sent twice if a loss was told while it ran, or if one may have gone untold: because the
        coordinator's connection was lost before, or was left without use, since this client was made.
Rule 3: what is needed to be told is not the user's to switch off.

A commit that is merely slow is sent once: on a busy machine every commit is slower than the back-off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOST: Final = frozenset({"FAIL", "REQTMOUT", "TIMEOUT"})
"""Facilities of librdkafka's log lines that say: a connection closed, or a request timed out."""
_COORDINATOR: Final = "TxnCoordinator"
"""librdkafka's name for the connection that commits go by."""
_INFO: Final = 6
_BACKOFF_MS, _BACKOFF_MAX_MS = 100, 1000
_JITTER: Final = 0.8
"""The shortest back-off as a share of `retry.backoff.ms`."""
_LONG_S: Final = 5.0
"""A commit that took so long counts as repeated whatever the log says."""
_UNUSED_S: Final = 50.0
"""A connection without use is closed untold after 60 s at the earliest."""


class Repeats:
    """Takes librdkafka's log, in place of a logging.Logger, and the times at which the coordinator is spoken to."""

    def __init__(self, properties: Mapping[str, object]) -> None:
        """`properties`: the client's."""
        backoff = _number(properties, "retry.backoff.ms", _BACKOFF_MS)
        longest = _number(properties, "retry.backoff.max.ms", _BACKOFF_MAX_MS)
        self._quickest_s = _JITTER * min(backoff, longest) / 1000
        self._level = max(_INFO, _number(properties, "log_level", _INFO))
        self._lost = self._lost_before = 0
        self._untold = False
        """Whether a loss may go untold from now on."""
        self._spoke_at: float | None = None
        self._began_at = 0.0

    @property
    def settings(self) -> Mapping[str, object]:
        """What the client needs so that losses are told; over what the user wrote."""
        return {"log.connection.close": True, "log_level": self._level}

    # ---- librdkafka's log; without a logger it writes to stderr

    def log(self, level: int, text: str, facility: str = "", *rest: object) -> None:
        """One line. What concerns the user reaches us through error_cb."""
        if facility in _LOST:
            self._lost += 1
            self._untold = self._untold or any(_COORDINATOR in str(part) for part in rest)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return True

    # ---- commits; times in seconds, of any one clock

    def speaks(self, now: float) -> None:
        """The coordinator is asked something, or has just answered."""
        if self._spoke_at is not None and now - self._spoke_at > _UNUSED_S:
            self._untold = True
        self._spoke_at = now

    def begins(self, now: float) -> None:
        """A commit is sent."""
        self.speaks(now)
        self._began_at, self._lost_before = now, self._lost

    def quick(self, now: float) -> bool:
        """The commit has succeeded: whether that was too quick for a second copy, without a look at the log."""
        self._spoke_at = now
        return now - self._began_at < self._quickest_s

    def repeated(self, now: float) -> bool:
        """Whether a commit that was not quick may have been sent twice. All lines until now must have been taken."""
        return self._untold or self._lost > self._lost_before or now - self._began_at >= _LONG_S


def _number(properties: Mapping[str, object], name: str, default: int) -> int:
    return int(str(properties.get(name, default)))
