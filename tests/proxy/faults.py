"""What a proxy can do to the bytes of one direction. Pure: no clock, no socket.

A test adds faults and lifts them; each lane asks for the sum of those that concern it. Delays add up, of several rates,
pieces and limits the smallest holds, of two holes the one that loses bytes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from tests.proxy.lane import Connection


class Direction(Enum):
    """Which way bytes go."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


TO_SERVER, TO_CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT
BOTH = (TO_SERVER, TO_CLIENT)


class Hole(Enum):
    """What becomes of bytes that are not forwarded."""

    NONE = 0
    HOLD = 1
    """They wait, as in a network that is cut and healed: then all of them arrive."""
    DROP = 2
    """They are lost, and so is all that would come after them: TCP never delivers a stream with a gap."""


@dataclass
class Flip:
    """Damage: the byte at `offset` of each connection's stream, or one byte in `every`, drawn from `seed`."""

    mask: int = 0x01
    offset: int | None = None
    every: int = 0
    seed: int = 0

    def places(self, connection: int, start: int, size: int) -> list[int]:
        """Which of the `size` bytes that begin at stream offset `start` are damaged, counted from `start`."""
        if self.offset is not None:
            return [self.offset - start] if start <= self.offset < start + size else []
        found = []
        # One draw for each window of `every` bytes: the same bytes whatever pieces the stream comes in.
        for window in range(start // self.every, (start + size - 1) // self.every + 1):
            drawn = random.Random(f"{self.seed}/{connection}/{window}").randrange(self.every)
            place = window * self.every + drawn - start
            if 0 <= place < size:
                found.append(place)
        return found


@dataclass(eq=False)
class Fault:
    """One thing that a test has asked for."""

    directions: Collection[Direction]
    where: Callable[[Connection], bool] | None = None
    """Which connections it concerns; None = all."""
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    piece: int | None = None
    """Bytes sent at a time."""
    hole: Hole = Hole.NONE
    limit: int | None = None
    """Bytes of each connection that pass; the rest is lost."""
    flip: Flip | None = None
    free_at: dict[Direction, float] = field(default_factory=dict)
    """When the line of a throttled direction is free again: its connections share the rate."""

    def concerns(self, connection: Connection, direction: Direction) -> bool:
        """Whether it holds for this direction of this connection."""
        return direction in self.directions and (self.where is None or self.where(connection))


@dataclass
class Plan:
    """The sum of the faults that concern one lane now."""

    delay_s: float = 0.0
    piece: int | None = None
    hole: Hole = Hole.NONE
    limit: int | None = None
    throttles: list[Fault] = field(default_factory=list)
    flips: list[Flip] = field(default_factory=list)


def sum_up(faults: Iterable[Fault], connection: Connection, direction: Direction) -> Plan:
    """What holds for one direction of one connection."""
    plan = Plan()
    for fault in faults:
        if not fault.concerns(connection, direction):
            continue
        plan.delay_s += fault.delay_s
        plan.piece = _least(plan.piece, fault.piece)
        plan.limit = _least(plan.limit, fault.limit)
        plan.hole = max(plan.hole, fault.hole, key=lambda hole: hole.value)
        if fault.bytes_per_s is not None:
            plan.throttles.append(fault)
        if fault.flip is not None:
            plan.flips.append(fault.flip)
    return plan


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)
