"""One direction's bytes on their way through the proxy."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from tests.proxy.rules import Gate

BACKLOG_BYTES = 16 * 1024 * 1024
"""What a lane takes from its source beyond what it has delivered: then the source feels it, as of a full socket."""


class Bell:
    """Wakes everybody who waits, each time it is rung."""

    def __init__(self) -> None:
        self._event = trio.Event()

    async def wait(self) -> None:
        """Wait for the next ring."""
        await self._event.wait()

    def ring(self) -> None:
        """Wake whoever waits now."""
        self._event.set()
        self._event = trio.Event()


@dataclass
class Item:
    """Bytes that were read together, or the end of the stream."""

    data: bytes
    at: float
    """When they came, in Trio's time."""
    end: bool = False
    broken: bool = False
    """The end was a reset."""
    gate: Gate | None = None
    """A rule's word on them: they wait until it is open."""


class Queue:
    """Items in order, bounded by bytes."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._nbytes = 0
        self._bell = Bell()

    async def put(self, item: Item) -> None:
        """Append; waits while too much is under way."""
        while self._nbytes >= BACKLOG_BYTES:
            await self._bell.wait()
        self._items.append(item)
        self._nbytes += len(item.data)
        self._bell.ring()

    async def first(self) -> Item:
        """The oldest item, which stays; waits for one."""
        while not self._items:
            await self._bell.wait()
        return self._items[0]

    def drop_first(self) -> None:
        """The oldest item has been dealt with."""
        self._nbytes -= len(self._items.popleft().data)
        self._bell.ring()
