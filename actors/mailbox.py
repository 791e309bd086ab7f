"""A bounded channel that outlives the actors on both sides of it.

A Trio memory channel breaks when the last holder of an end crashes. A Mailbox has no ends to lose:
the object is owned by whoever builds the tree, and actors come and go.

Theory of operation: `_items` holds what was sent, `_returned` what came back from a failed lease and
goes out first. A task that must wait stands in `_senders` or `_receivers`; whoever frees it does its
work for it, so a cancelled wait has had no effect and a finished one cannot be cancelled any more.

Rule 1: senders wait only when `capacity` items are buffered; receivers only when nothing is.
Rule 2: order is kept, except that a returned item goes to the front.
Rule 3: after `close()` nothing gets in; receivers see EndOfChannel when buffer and leases are empty.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from .actor import beat_here, waiting_here
from .errors import SpecError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")


@dataclass(frozen=True)
class MailboxStatistics:
    """One moment of a mailbox.

    Attributes:
      peak: most items ever buffered.
      waiting_send: tasks blocked because it is full.
      waiting_receive: tasks blocked because it is empty.
    """

    name: str
    capacity: float
    buffered: int
    peak: int
    waiting_send: int
    waiting_receive: int


@dataclass(frozen=True)
class Leased(Generic[T]):
    """An item in hand; `attempt` is 0 the first time, one more after every failed lease."""

    item: T
    attempt: int = 0


class _Slot(Generic[T]):
    """Where a waiting receiver finds what woke it: an item, or nothing after a close."""

    def __init__(self, leasing: bool) -> None:
        self.leasing = leasing
        self.found: Leased[T] | None = None


class Mailbox(Generic[T]):
    """A bounded, first-in first-out channel between actors.

    Args:
      capacity: items buffered before senders wait; 0 hands over directly, math.inf never blocks.
      name: shown in statistics, and in what waiting actors say they wait for.
    """

    def __init__(self, capacity: float, *, name: str = "") -> None:
        if capacity < 0 or (capacity != math.inf and int(capacity) != capacity):
            raise SpecError(f"mailbox {name!r}: capacity={capacity} must be a whole number >= 0, or math.inf")
        self.name = name
        self.capacity = capacity
        self._items: deque[T] = deque()
        self._returned: deque[Leased[T]] = deque()
        self._senders: OrderedDict[trio.lowlevel.Task, tuple[T, list[bool]]] = OrderedDict()
        self._receivers: OrderedDict[trio.lowlevel.Task, _Slot[T]] = OrderedDict()
        self._leases = 0
        self._peak = 0
        self._closed = False

    async def send(self, item: T) -> None:
        """Put an item in, waiting while the mailbox is full.

        Cancellation: the item was not accepted; sending it again is exact.

        Raises:
          trio.ClosedResourceError: the mailbox was closed before the item was accepted.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.send_nowait(item)
        except trio.WouldBlock:
            await self._wait_to_send(item)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
        beat_here()

    async def receive(self) -> T:
        """Take the next item, waiting while there is none. It is lost if the taker crashes (see `lease`).

        Cancellation: no item was taken.

        Raises:
          trio.EndOfChannel: the mailbox is closed and empty.
        """
        return (await self._take(leasing=False)).item

    def send_nowait(self, item: T) -> None:
        """Put an item in or raise trio.WouldBlock; trio.ClosedResourceError after `close`."""
        if self._closed:
            raise trio.ClosedResourceError(f"mailbox {self.name!r} is closed")
        if self._receivers:
            self._hand_over(Leased(item))
        elif len(self._items) < self.capacity:
            self._append(item)
        else:
            raise trio.WouldBlock

    def receive_nowait(self) -> T:
        """Take the next item or raise trio.WouldBlock; trio.EndOfChannel when closed and empty."""
        return self._take_nowait().item

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Leased[T]]:
        """Take the next item for the length of a block; a block that raises gives it back.

        The item goes to the front again, with one attempt more. Meant for stateless workers that hold
        one lease at a time: a closed mailbox ends only when no lease is out.

        Cancellation: inside the block it counts as raising: the item is given back.
        """
        leased = await self._take(leasing=True)
        try:
            yield leased
        except BaseException:
            self._leases -= 1
            self._give_back(Leased(leased.item, leased.attempt + 1))
            raise
        self._leases -= 1
        self._end_if_drained()

    def close(self) -> None:
        """Let nothing in any more; receivers drain what is left, then see trio.EndOfChannel.

        Senders that still wait get trio.ClosedResourceError. Closing twice is fine.
        """
        self._closed = True
        while self._senders:
            task, (_, refused) = self._senders.popitem(last=False)
            refused.append(True)
            trio.lowlevel.reschedule(task)
        self._end_if_drained()

    @property
    def closed(self) -> bool:
        """Whether `close` was called; items may still be left."""
        return self._closed

    def statistics(self) -> MailboxStatistics:
        """A snapshot; cheap enough for every scrape."""
        return MailboxStatistics(
            name=self.name,
            capacity=self.capacity,
            buffered=len(self._items) + len(self._returned),
            peak=self._peak,
            waiting_send=len(self._senders),
            waiting_receive=len(self._receivers),
        )

    def __aiter__(self) -> Mailbox[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def _take(self, *, leasing: bool) -> Leased[T]:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            taken = self._take_nowait()
        except trio.WouldBlock:
            taken = await self._wait_to_take(leasing)
        else:
            # Counted before any other task runs: a close meanwhile must not end the mailbox.
            self._leases += leasing
            await trio.lowlevel.cancel_shielded_checkpoint()
        beat_here()
        return taken

    def _take_nowait(self) -> Leased[T]:
        if self._returned:
            return self._returned.popleft()
        if self._senders:
            task, (item, _) = self._senders.popitem(last=False)
            # Through the buffer, so that what was buffered before it goes out before it.
            self._items.append(item)
            trio.lowlevel.reschedule(task)
        if self._items:
            return Leased(self._items.popleft())
        if self._closed and not self._leases:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def _wait_to_send(self, item: T) -> None:
        task = trio.lowlevel.current_task()
        refused: list[bool] = []
        self._senders[task] = (item, refused)

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._senders[task]
            return trio.lowlevel.Abort.SUCCEEDED

        with waiting_here(f"room in {self.name or 'a mailbox'}"):
            await trio.lowlevel.wait_task_rescheduled(abort)
        if refused:
            raise trio.ClosedResourceError(f"mailbox {self.name!r} was closed")

    async def _wait_to_take(self, leasing: bool) -> Leased[T]:
        task = trio.lowlevel.current_task()
        slot: _Slot[T] = _Slot(leasing)
        self._receivers[task] = slot

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._receivers[task]
            return trio.lowlevel.Abort.SUCCEEDED

        with waiting_here(f"an item in {self.name or 'a mailbox'}"):
            await trio.lowlevel.wait_task_rescheduled(abort)
        if slot.found is None:
            raise trio.EndOfChannel
        return slot.found

    def _append(self, item: T) -> None:
        self._items.append(item)
        self._peak = max(self._peak, len(self._items))

    def _hand_over(self, leased: Leased[T]) -> None:
        task, slot = self._receivers.popitem(last=False)
        slot.found = leased
        self._leases += slot.leasing
        trio.lowlevel.reschedule(task)

    def _give_back(self, leased: Leased[T]) -> None:
        if self._receivers:
            self._hand_over(leased)
        else:
            self._returned.appendleft(leased)
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self._closed and not self._leases and not self._items and not self._returned:
            while self._receivers:
                task, _ = self._receivers.popitem(last=False)
                trio.lowlevel.reschedule(task)
