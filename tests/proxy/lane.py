"""One direction of one connection: a reader that fills a queue, a writer that empties it as the faults allow.

Rule 1: bytes leave in the order in which they came, the end of the stream behind them: what is held holds up all that
        came later on this connection, and a client that goes away is noticed by the server only after what it had sent.
Rule 2: a lane that lost bytes is silent from then on, its end included; only cutting the connection ends it.
Rule 3: whatever waits looks again when the bell rings, so a fault that is lifted holds nobody a moment longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from tests.proxy.faults import TO_SERVER, Direction, Hole, Plan, sum_up
from tests.proxy.queues import Bell, Item, Queue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.proxy.faults import Fault

_READ_BYTES = 65_536
_OPENING_BYTES = 4096
_TICK_S = 0.05
"""A throttled line is sent to in pieces of so many seconds."""


@dataclass
class Connection:
    """What is known of one client's connection."""

    number: int
    """From 1, in the order of arrival."""
    opening: bytes = b""
    """The first bytes that the client sent."""


@dataclass
class Traffic:
    """Bytes of one direction, of all connections so far."""

    received: int = 0
    forwarded: int = 0
    dropped: int = 0
    flipped: int = 0


@dataclass
class Board:
    """What holds now, for all lanes of a proxy."""

    faults: list[Fault] = field(default_factory=list)
    bell: Bell = field(default_factory=Bell)
    hang: bool = False
    refuse: bool = False
    news: Bell = field(default_factory=Bell)
    """Rung when a number changes."""
    traffic: dict[Direction, Traffic] = field(default_factory=lambda: {each: Traffic() for each in Direction})


class Cutter(Protocol):
    """Makes items of the bytes that one direction of one connection brings."""

    def feed(self, data: bytes, now: float) -> Iterable[Item]:
        """Take bytes, give what is complete."""
        ...

    def rest(self, now: float) -> Iterable[Item]:
        """What is left at the end of the stream."""
        ...


class PlainCutter:
    """Bytes as they come."""

    def feed(self, data: bytes, now: float) -> Iterable[Item]:
        """One item."""
        return (Item(data, now),)

    def rest(self, now: float) -> Iterable[Item]:
        """Nothing is kept."""
        return ()


class Lane:
    """Run `read` and `write` beside each other."""

    def __init__(self, board: Board, connection: Connection, direction: Direction, cutter: Cutter) -> None:
        self._board, self._connection, self._direction, self._cutter = board, connection, direction, cutter
        self._queue = Queue()
        self._traffic = board.traffic[direction]
        self._offset = 0
        """Bytes forwarded or dropped: where in the stream the next one stands."""
        self._lost = self._dead = False

    async def read(self, source: trio.abc.HalfCloseableStream) -> None:
        """Until the source ends or is closed. Cancellation: what was read is lost."""
        broken = False
        try:
            while data := bytes(await source.receive_some(_READ_BYTES)):
                self._note(data)
                for item in self._cutter.feed(data, trio.current_time()):
                    await self._queue.put(item)
        except trio.BrokenResourceError:
            broken = True
        except trio.ClosedResourceError:
            # Closed by us, on command: the other side is told in good order.
            pass
        for item in self._cutter.rest(trio.current_time()):
            await self._queue.put(item)
        await self._queue.put(Item(b"", trio.current_time(), end=True, broken=broken))

    def _note(self, data: bytes) -> None:
        self._traffic.received += len(data)
        self._board.news.ring()
        if self._direction is TO_SERVER and len(self._connection.opening) < _OPENING_BYTES:
            self._connection.opening += data[: _OPENING_BYTES - len(self._connection.opening)]

    async def write(self, sink: trio.abc.HalfCloseableStream) -> bool:
        """Until the end of the stream has been dealt with. Returns whether the source was reset."""
        while True:
            item = await self._queue.first()
            plan = await self._leave(item)
            if item.end and plan.limit is not None and self._offset >= plan.limit:
                self._lost = True
            if item.end and not self._lost:
                if not item.broken:
                    await self._say_end(sink)
                return item.broken
            if item.gate is not None and item.gate.dropped:
                self._traffic.dropped += len(item.data)
            elif not item.end:
                await self._forward(sink, item.data, plan)
            self._queue.drop_first()
            self._board.news.ring()

    async def _leave(self, item: Item) -> Plan:
        """Wait until an item may leave, or is to be lost."""
        while True:
            plan = sum_up(self._board.faults, self._connection, self._direction)
            waits = item.gate is not None and not item.gate.decided
            if plan.hole is Hole.DROP:
                if not waits:
                    self._lost = True
                    return plan
            elif plan.hole is Hole.NONE and not waits:
                left = item.at + plan.delay_s - trio.current_time()
                if left <= 0:
                    return plan
                with trio.move_on_after(left):
                    await self._board.bell.wait()
                continue
            await self._board.bell.wait()

    async def _forward(self, sink: trio.abc.HalfCloseableStream, data: bytes, plan: Plan) -> None:
        """Send an item in the pieces that hold now; a hole that opens meanwhile takes the rest."""
        done = 0
        while done < len(data):
            room = len(data) - done if plan.limit is None else max(0, plan.limit - self._offset)
            if self._lost or plan.hole is Hole.DROP or room == 0:
                self._lose(len(data) - done)
                return
            size = min(len(data) - done, room, plan.piece or len(data), *map(_share, plan.throttles))
            await self._pace(plan, size)
            await self._send(sink, self._damage(data[done : done + size], plan))
            done += size
            plan = await self._leave(Item(b"", 0.0)) if done < len(data) else plan

    def _lose(self, size: int) -> None:
        self._lost = True
        self._traffic.dropped += size
        self._offset += size

    async def _pace(self, plan: Plan, size: int) -> None:
        for throttle in plan.throttles:
            assert throttle.bytes_per_s is not None
            now = trio.current_time()
            free = max(now, throttle.free_at.get(self._direction, 0.0)) + size / throttle.bytes_per_s
            throttle.free_at[self._direction] = free
            while throttle in self._board.faults and trio.current_time() < free:
                with trio.move_on_at(free):
                    await self._board.bell.wait()

    async def _send(self, sink: trio.abc.HalfCloseableStream, data: bytes) -> None:
        self._offset += len(data)
        if not self._dead:
            try:
                await sink.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                # The other lane brings the news; this one goes on so that its source is not held up.
                self._dead = True
        if self._dead:
            self._traffic.dropped += len(data)
        else:
            self._traffic.forwarded += len(data)

    def _damage(self, data: bytes, plan: Plan) -> bytes:
        if not plan.flips:
            return data
        damaged = bytearray(data)
        for flip in plan.flips:
            for place in flip.places(self._connection.number, self._offset, len(data)):
                damaged[place] ^= flip.mask
                self._traffic.flipped += 1
        return bytes(damaged)

    async def _say_end(self, sink: trio.abc.HalfCloseableStream) -> None:
        try:
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._dead = True


def _share(throttle: Fault) -> int:
    assert throttle.bytes_per_s is not None
    return max(1, int(throttle.bytes_per_s * _TICK_S))
