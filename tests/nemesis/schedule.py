"""Which fault comes when. Pure: everything follows from the seed, so a failure can be run again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.nemesis.stage import Stage

    Act = Callable[[Stage, random.Random], None]

Kind = Literal["process", "network", "broker", "postgres"]

AGAIN_AT_ONCE = 0.2
"""Share of the faults that strike while the pipeline is still recovering from the one before."""
PAIRED = 0.15
"""Share of the faults that come together with another one, of another kind."""
TRIPLED = 0.3
"""Share of these to which a third one comes, of a third kind."""
CALM_S = 1.5
"""Longest wait before a fault."""


@dataclass(frozen=True)
class Fault:
    """One kind of harm."""

    row: str
    """Of the fault matrix."""
    name: str
    kind: Kind
    act: Act
    """Does it and mends it; the dice are its own."""
    alone: bool = False
    """It starts or ends processes of ours, or waits for something that another fault could keep from coming."""


@dataclass(frozen=True)
class Step:
    """What happens next."""

    number: int
    calm_s: float
    faults: tuple[Fault, ...]
    """One, or two or three at the same time."""
    recover: bool
    """Wait for new events before the next step."""
    seed: str
    """For the dice of its faults."""

    def __str__(self) -> str:
        return f"{self.number}. {' + '.join(fault.name for fault in self.faults)}"


def steps(seed: str, faults: Sequence[Fault]) -> Iterator[Step]:
    """An endless schedule. Every fault comes once, in an order drawn from the seed, before any comes again."""
    rng = random.Random(seed)
    number = 0
    while True:
        deck = list(faults)
        rng.shuffle(deck)
        for fault in deck:
            number += 1
            chosen = _company(fault, faults, rng)
            calm_s, recover = rng.uniform(0, CALM_S), rng.random() >= AGAIN_AT_ONCE
            yield Step(number, calm_s, chosen, recover, f"{seed}/{number}")


def _company(fault: Fault, faults: Sequence[Fault], rng: random.Random) -> tuple[Fault, ...]:
    """The fault and those that strike at the same time."""
    chosen = [fault]
    for share in (PAIRED, TRIPLED):
        kinds = {each.kind for each in chosen}
        others = [other for other in faults if other.kind not in kinds and not other.alone]
        if fault.alone or not others or rng.random() >= share:
            break
        chosen.append(rng.choice(others))
    return tuple(chosen)
