"""Which source transactions share a Kafka transaction, and when one is too large for it. Pure.

A Kafka transaction costs a round trip or two, whatever it holds: idle streams want it small and at once, a backlog
wants it large. So it ends at the first source COMMIT after one of: nothing more waits, `max_ms` since its first event,
32 MiB of records. A source transaction stays in one Kafka transaction until it is itself above a limit: what was
committed before it in the same Kafka transaction does not count, or small ones would be split in a backlog.

Where the brokers do not take so much within the time that is allowed, less is sent at once (`Room`): what is given up
and begun anew as it was would be given up for ever.
"""

from __future__ import annotations

from enum import Enum

import msgspec

_FULL_BYTES = 32 * 1024 * 1024
_LEAST_BYTES = 64 * 1024
_QUICK = 0.25
"""Of the time that is allowed: what took no more leaves room for twice as much."""


class Room:
    """How many bytes of records a Kafka transaction may hold, learnt from how long the brokers take for them."""

    def __init__(self) -> None:
        self.nbytes = _FULL_BYTES
        self._late_lsn: int | None = None
        self._again = False

    def splits(self, lsn: int) -> bool:
        """Whether the source transaction that commits at `lsn` is split if it does not fit.

        When it came too late once it may have met an outage, which is over before it is tried again.
        """
        return self._again and lsn == self._late_lsn

    def missed(self, nbytes: int, lsn: int) -> None:
        """A transaction of `nbytes`, up to the source transaction at `lsn`, was not taken in time and given up."""
        self._again = lsn == self._late_lsn
        self._late_lsn = lsn
        # A small one says nothing about the line, and one that could not be split nothing about the room.
        if nbytes > _LEAST_BYTES and (self.nbytes == _FULL_BYTES or nbytes <= 2 * self.nbytes):
            self.nbytes = max(min(self.nbytes, nbytes) // 4, _LEAST_BYTES)

    def taken(self, nbytes: int, took_s: float, allowed_s: float) -> None:
        """The brokers have taken one of `nbytes`, `took_s` seconds after its end, of `allowed_s` that are allowed."""
        if nbytes >= self.nbytes / 2 and took_s <= _QUICK * allowed_s:
            self.nbytes = min(2 * self.nbytes, _FULL_BYTES)


class End(Enum):
    """What to do with the open Kafka transaction after an item."""

    NO = "go on"
    COMMIT = "it ends at this source COMMIT"
    SPLIT = "it ends in mid-transaction, as one part of several"


class Limits(msgspec.Struct, frozen=True):
    """From the `batch` section; None = no limit."""

    max_s: float
    respect_source_tx: bool
    max_tx_events: int | None
    max_tx_bytes: int | None
    max_tx_s: float
    may_split: bool = True


class Grouping:
    """The open Kafka transaction as far as its end is concerned."""

    def __init__(self, limits: Limits, room: Room | None = None) -> None:
        self._limits = limits
        self._room = room or Room()
        self.max_tx_s = limits.max_tx_s
        """Lowered for a transaction that once expired in Kafka."""
        self.clear()

    def clear(self) -> None:
        """No Kafka transaction is open."""
        self.started: float | None = None
        self.events = self.nbytes = 0
        self.next_source()

    def next_source(self) -> None:
        """What comes next belongs to another source transaction."""
        self._source_events = self._source_bytes = self._source_sent = 0

    @property
    def open(self) -> bool:
        return self.started is not None

    def add(self, events: int, nbytes: int, wal_bytes: int, now: float) -> None:
        """Records of `events` events, `nbytes` of key and value from `wal_bytes`, entered at `now` (seconds)."""
        if self.started is None:
            self.started = now
        self.events += events
        self.nbytes += nbytes
        self._source_events += events
        self._source_bytes += wal_bytes
        self._source_sent += nbytes

    def end(self, *, at_commit: bool, more_waits: bool, now: float, lsn: int) -> End:
        """Decide after an item of the source transaction at `lsn`. `at_commit`: it ended one, or was a message."""
        limits = self._limits
        if self.started is None:
            return End.NO
        age = now - self.started
        if at_commit or not limits.respect_source_tx:
            if not more_waits or age >= limits.max_s or self.nbytes >= self._room.nbytes:
                return End.COMMIT
            return End.NO
        too_large = (
            age >= self.max_tx_s
            or (limits.may_split and self._source_sent > self._room.nbytes and self._room.splits(lsn))
            or (limits.max_tx_events is not None and self._source_events > limits.max_tx_events)
            or (limits.max_tx_bytes is not None and self._source_bytes > limits.max_tx_bytes)
        )
        return End.SPLIT if too_large else End.NO
