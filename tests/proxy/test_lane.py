"""Time in the proxy, exactly: one direction of a connection on a clock that jumps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.proxy.faults import TO_SERVER, Fault
from tests.proxy.lane import Board, Connection, Lane, PlainCutter
from tests.proxy.queues import BACKLOG_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable


class Line:
    """A lane between two streams in memory."""

    def __init__(self, board: Board, number: int = 1) -> None:
        self._lane = Lane(board, Connection(number), TO_SERVER, PlainCutter())
        self.near, self._source = trio.testing.memory_stream_pair()
        self._sink, self.far = trio.testing.memory_stream_pair()

    async def run(self) -> None:
        """Until its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lane.read, self._source)
            nursery.start_soon(self._lane.write, self._sink)

    async def arrival(self, data: bytes) -> float:
        """When all of it has come. Raises AssertionError when something else comes."""
        got = b""
        while len(got) < len(data):
            got += await self.far.receive_some(len(data) - len(got))
        assert got == data
        return trio.current_time()


@pytest.fixture
def add(board: Board) -> Callable[[Fault], Fault]:
    """Adds a fault as a proxy does."""

    def act(fault: Fault) -> Fault:
        board.faults.append(fault)
        board.bell.ring()
        return fault

    return act


@pytest.fixture
def board() -> Board:
    """What holds."""
    return Board()


async def test_a_delay_is_a_delay_and_no_limit_of_the_rate(
    autojump_clock: trio.testing.MockClock, board: Board, add: Callable[[Fault], Fault]
) -> None:
    """Guards against bytes that queue up behind each other's delays."""
    add(Fault([TO_SERVER], delay_s=2.0))
    add(Fault([TO_SERVER], delay_s=0.5))
    async with trio.open_nursery() as nursery:
        line, began = Line(board), trio.current_time()
        nursery.start_soon(line.run)
        await line.near.send_all(b"one")
        await trio.sleep(1)
        await line.near.send_all(b"two")
        assert await line.arrival(b"one") - began == pytest.approx(2.5)
        assert await line.arrival(b"two") - began == pytest.approx(3.5)
        nursery.cancel_scope.cancel()


async def test_a_throttled_line_has_its_rate_for_all_connections_together(
    autojump_clock: trio.testing.MockClock, board: Board, add: Callable[[Fault], Fault]
) -> None:
    """Guards against a rate that each connection has for itself."""
    add(Fault([TO_SERVER], bytes_per_s=100))
    async with trio.open_nursery() as nursery:
        lines, began = [Line(board, number) for number in (1, 2)], trio.current_time()
        for line in lines:
            nursery.start_soon(line.run)
            await line.near.send_all(bytes(500))
        arrivals = [await line.arrival(bytes(500)) - began for line in lines]
        assert max(arrivals) == pytest.approx(10.0)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "fault",
    [Fault([TO_SERVER], bytes_per_s=0.001), Fault([TO_SERVER], delay_s=math.inf)],
    ids=["throttle", "delay"],
)
async def test_what_waits_goes_on_at_once_when_the_fault_is_lifted(
    autojump_clock: trio.testing.MockClock, board: Board, add: Callable[[Fault], Fault], fault: Fault
) -> None:
    """Guards against a fault that is served to its end after it was lifted."""
    add(fault)
    async with trio.open_nursery() as nursery:
        line = Line(board)
        nursery.start_soon(line.run)
        await line.near.send_all(b"three")
        await trio.sleep(10)
        lifted = trio.current_time()
        board.faults.remove(fault)
        board.bell.ring()
        assert await line.arrival(b"three") == lifted
        nursery.cancel_scope.cancel()


async def test_a_line_takes_only_so_much_that_it_cannot_deliver(
    autojump_clock: trio.testing.MockClock, board: Board, add: Callable[[Fault], Fault]
) -> None:
    """Guards against a black hole in memory: the sender of a full connection has to feel it."""
    hole = add(Fault([TO_SERVER], delay_s=3600))
    data = bytes(BACKLOG_BYTES + 1024 * 1024)
    async with trio.open_nursery() as nursery:
        line = Line(board)
        nursery.start_soon(line.run)
        await line.near.send_all(data)
        await trio.testing.wait_all_tasks_blocked()
        assert BACKLOG_BYTES <= board.traffic[TO_SERVER].received < len(data)
        board.faults.remove(hole)
        board.bell.ring()
        await line.arrival(data)
        nursery.cancel_scope.cancel()
