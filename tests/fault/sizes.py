"""How long the long fault tests are, in one place. Read once, when the tests are imported.

DELTAFORGE_RIG=quick (what plain pytest and CI do) hits every place once; full, which `python -m tests.fault` sets, hits
every place with every action and at every position. On top, DELTAFORGE_KILLS, DELTAFORGE_KILL_ROWS,
DELTAFORGE_KILL_RATE, DELTAFORGE_FAILPOINT_ROUNDS, DELTAFORGE_RACES, DELTAFORGE_OUTAGE_S, DELTAFORGE_EPOCHS and
DELTAFORGE_LARGE_ROWS change single sizes, and DELTAFORGE_SEED the dice.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

VARIABLE: Final = "DELTAFORGE_RIG"
RIG: Final = os.environ.get(VARIABLE, "quick")
if RIG not in ("quick", "full"):
    raise ValueError(f"{VARIABLE} is quick or full, not {RIG}")
FULL: Final = RIG == "full"
SEED: Final = int(os.environ.get("DELTAFORGE_SEED", "7"))


def _size(variable: str, quick: int, full: int) -> int:
    """What the variable says, else what the rig says."""
    return int(os.environ.get(variable) or (full if FULL else quick))


def half(some: Sequence[T]) -> Sequence[T]:
    """All of them, or when quick every other one; which half depends on the seed."""
    return some if FULL else some[SEED % 2 :: 2]


KILLS: Final = _size("DELTAFORGE_KILLS", 6, 200)
KILL_ROWS: Final = _size("DELTAFORGE_KILL_ROWS", 40_000, 1_000_000)
"""Row changes that the writers have to reach before the kills are judged."""
KILL_RATE: Final = _size("DELTAFORGE_KILL_RATE", 2500, 800)
"""Row changes a second: many kills with as many rows would fill the memory of whoever judges them."""
FAILPOINT_ROUNDS: Final = _size("DELTAFORGE_FAILPOINT_ROUNDS", 0, 1)
"""How often more each failpoint is hit, at later passes."""
RACES: Final = _size("DELTAFORGE_RACES", 4, 20)
OUTAGE_S: Final = float(os.environ.get("DELTAFORGE_OUTAGE_S") or (60 if FULL else 12))
"""Seconds for which Kafka is away."""
LARGE_ROWS: Final = _size("DELTAFORGE_LARGE_ROWS", 100_000, 1_000_000)
EPOCHS: Final = _size("DELTAFORGE_EPOCHS", 8, 20)
"""Streams that are begun one after the other while descriptors and threads are counted."""
